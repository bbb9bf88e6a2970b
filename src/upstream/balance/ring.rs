//! Ketama ring of the members: nginx's algorithm, with the points of `pingora_ketama`.
//!
//! Every member has points on it, unavailable ones included. While a member is unavailable, only its own keys
//! move, each to the next member on the ring, and they return with it.
//!
//! A change of the membership inserts the points of new members and removes those of former ones. The ring is divided into
//! sections of equal width, each a sorted list. A change copies the sections that it touches; rings of other memberships
//! share the others.

use crate::upstream::address::Address;
use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Points for each unit of weight, as in nginx.
const POINTS: u32 = 160;
/// The ring has 160 points per unit of weight; larger weights are scaled down together. A thousand members
/// with a thousand points each would be 160 million.
const MOST_WEIGHT: u16 = 100;
/// The points of a section when the ring is divided.
const SECTION: usize = 128;
/// The ring is divided anew when its points are this many times more or less.
const GROWTH: usize = 4;
/// The points that a search passes before it uses a ring of the available members alone. While an eighth of them is
/// available, it never does.
const WALK: usize = 512;
/// No member.
const NONE: u32 = u32::MAX;

/// A point: its position on the ring, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    hash: u32,
    /// The slot of a member in a ring; the index of a member in a list of points.
    owner: u32,
}

/// The points of some members over time.
#[derive(Default)]
pub(super) struct RingBuilder {
    nodes: HashMap<SocketAddr, Node, RandomState>,
    /// The address of each slot; of a free one, its last.
    addresses: Vec<SocketAddr>,
    free: Vec<u32>,
    sections: Vec<Arc<[Point]>>,
    points: usize,
    /// The points when the ring was divided into sections.
    divided_at: usize,
    /// The number of updates.
    update: u64,
}

/// The points of one member.
struct Node {
    slot: u32,
    weight: u32,
    /// The last update in which it was a member.
    update: u64,
}

/// The ring of one membership.
pub(super) struct Ring {
    sections: Box<[Arc<[Point]>]>,
    /// The member of each slot.
    members: Box<[u32]>,
}

/// The points that an update adds and removes.
struct Difference {
    added: Vec<Point>,
    /// The positions of the points that are gone.
    removed: Vec<u32>,
    /// Whether the points of a slot are gone.
    is_removed: Vec<bool>,
}

impl Difference {
    fn removes(&self, point: Point) -> bool {
        self.is_removed.get(point.owner as usize).copied().unwrap_or(false)
    }

    fn remove(&mut self, address: SocketAddr, weight: u32, slot: u32) {
        self.removed.extend(points(address, weight));
        if let Some(is_removed) = self.is_removed.get_mut(slot as usize) {
            *is_removed = true;
        }
    }

    fn add(&mut self, address: SocketAddr, weight: u32, slot: u32) {
        self.added.extend(points(address, weight).map(|hash| Point { hash, owner: slot }));
    }
}

impl RingBuilder {
    /// The ring of these members, each with its weight.
    pub(super) fn update<'a>(
        &mut self,
        members: impl ExactSizeIterator<Item = (&'a Address, u16)> + Clone,
    ) -> Ring {
        let heaviest = members.clone().map(|(_, weight)| weight).max().unwrap_or(1);
        let mut slots = vec![NONE; members.len()];
        let is_removed = vec![false; self.addresses.len()];
        let mut difference = Difference { added: Vec::new(), removed: Vec::new(), is_removed };
        self.update += 1;
        for (slot, (address, weight)) in slots.iter_mut().zip(members) {
            if let Some(weight) = points_weight(weight, heaviest) {
                *slot = self.update_node(node(address), weight, &mut difference);
            }
        }
        let (update, free) = (self.update, &mut self.free);
        self.nodes.retain(|address, node| {
            let stays = node.update == update;
            if !stays {
                difference.remove(*address, node.weight, node.slot);
                // Its points are gone before the slot is used again, in a later update.
                free.push(node.slot);
            }
            stays
        });
        self.apply(difference);
        let mut members = vec![NONE; self.addresses.len()];
        for (index, slot) in slots.into_iter().enumerate().rev() {
            if let Some(member) = members.get_mut(slot as usize) {
                *member = index as u32;
            }
        }
        Ring { sections: self.sections.clone().into(), members: members.into() }
    }

    /// The slot of a member with points.
    fn update_node(&mut self, address: SocketAddr, weight: u32, difference: &mut Difference) -> u32 {
        if let Some(node) = self.nodes.get_mut(&address) {
            // Of two members with one address, the first one has the points.
            let is_first = std::mem::replace(&mut node.update, self.update) != self.update;
            if is_first && node.weight != weight {
                difference.remove(address, node.weight, node.slot);
                difference.add(address, weight, node.slot);
                node.weight = weight;
            }
            return node.slot;
        }
        let slot = self.free.pop().unwrap_or(self.addresses.len() as u32);
        match self.addresses.get_mut(slot as usize) {
            Some(last) => *last = address,
            None => self.addresses.push(address),
        }
        difference.add(address, weight, slot);
        self.nodes.insert(address, Node { slot, weight, update: self.update });
        slot
    }

    fn apply(&mut self, mut difference: Difference) {
        let Difference { added, removed, .. } = &mut difference;
        if added.is_empty() && removed.is_empty() {
            return;
        }
        self.points = self.points + added.len() - removed.len();
        let range = self.divided_at / GROWTH..=self.divided_at * GROWTH;
        if self.sections.is_empty() || !range.contains(&self.points) {
            self.divide(&difference);
            return;
        }
        sort(added, &self.addresses);
        removed.sort_unstable();
        let shift = shift(self.sections.len());
        let (mut added, mut removed) = (&difference.added[..], &difference.removed[..]);
        while let Some(next) =
            added.first().map(|point| point.hash).into_iter().chain(removed.first().copied()).min()
        {
            let at = section(next, shift);
            let in_section = |hash: u32| section(hash, shift) == at;
            let (new, further) = added.split_at(added.partition_point(|point| in_section(point.hash)));
            removed = &removed[removed.partition_point(|hash| in_section(*hash))..];
            added = further;
            let kept = self.sections[at].iter().copied().filter(|point| !difference.removes(*point));
            let mut points: Vec<Point> = kept.chain(new.iter().copied()).collect();
            // Two sorted runs, which a stable sort merges.
            points.sort_by(|a, b| compare(*a, *b, &self.addresses));
            self.sections[at] = points.into();
        }
    }

    /// Divides the ring anew.
    fn divide(&mut self, difference: &Difference) {
        let before = self.sections.iter().flat_map(|section| section.iter().copied());
        let mut points: Vec<Point> = before.filter(|point| !difference.removes(*point)).collect();
        points.extend(&difference.added);
        sort(&mut points, &self.addresses);
        self.divided_at = points.len();
        let count = (points.len() / SECTION).max(1).next_power_of_two();
        let shift = shift(count);
        let mut rest = &points[..];
        let sections = (0..count).map(|at| {
            let (of_section, further) =
                rest.split_at(rest.partition_point(|point| section(point.hash, shift) <= at));
            rest = further;
            of_section.into()
        });
        self.sections = sections.collect();
    }
}

impl Ring {
    /// The members whose points follow a position, from the next point on, once around the ring.
    fn members_from(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let at = section(hash, shift(self.sections.len()));
        let (before, from) = self.sections.split_at(at.min(self.sections.len()));
        let (first, after) =
            from.split_first().map_or((&[][..], &[][..]), |(first, after)| (&first[..], after));
        let (last, first) = first.split_at(first.partition_point(|point| point.hash < hash));
        let between = after.iter().chain(before).flat_map(|section| section.iter());
        let points = first.iter().chain(between).chain(last);
        points.filter_map(|point| self.members.get(point.owner as usize).map(|member| *member as usize))
    }

    /// The first member at or after a position that `accepts`. `Err` if it was not found within [`WALK`] points.
    pub(super) fn find_near(
        &self,
        hash: u32,
        accepts: impl Fn(usize) -> bool,
    ) -> Result<Option<usize>, TooFar> {
        let mut passed = 0;
        for member in self.members_from(hash) {
            if accepts(member) {
                return Ok(Some(member));
            }
            passed += 1;
            if passed == WALK {
                return Err(TooFar);
            }
        }
        Ok(None)
    }

    /// The first member at or after a position that `accepts`, however far it is.
    pub(super) fn find(&self, hash: u32, accepts: impl Fn(usize) -> bool) -> Option<usize> {
        self.members_from(hash).find(|member| accepts(*member))
    }

    /// The points of the members that `accepts`, in order; their owners are members.
    pub(super) fn points_of(&self, accepts: impl Fn(usize) -> bool) -> Box<[Point]> {
        let points = self.sections.iter().flat_map(|section| section.iter());
        let owned = points.filter_map(|point| {
            let owner = *self.members.get(point.owner as usize)?;
            accepts(owner as usize).then_some(Point { owner, ..*point })
        });
        owned.collect()
    }
}

/// No member was found near a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFar;

/// The first owner at or after a position among [`WALK`] of these points that `accepts`.
pub(super) fn find_among(points: &[Point], hash: u32, accepts: impl Fn(usize) -> bool) -> Option<usize> {
    let (before, from) = points.split_at(points.partition_point(|point| point.hash < hash));
    let near = from.iter().chain(before).take(WALK);
    near.map(|point| point.owner as usize).find(|owner| accepts(*owner))
}

/// The position of a key.
pub(super) fn position(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

/// Of equal positions, the smallest address is the first, whenever it came.
fn compare(a: Point, b: Point, addresses: &[SocketAddr]) -> Ordering {
    let address = |point: Point| addresses.get(point.owner as usize);
    a.hash.cmp(&b.hash).then_with(|| address(a).cmp(&address(b)))
}

fn sort(points: &mut [Point], addresses: &[SocketAddr]) {
    points.sort_unstable_by(|a, b| compare(*a, *b, addresses));
}

/// The bits of a position within its section, for a number of sections that is a power of two.
fn shift(sections: usize) -> u32 {
    u32::BITS - sections.max(1).ilog2()
}

fn section(hash: u32, shift: u32) -> usize {
    // With one section, all 32 bits are shifted.
    (u64::from(hash) >> shift) as usize
}

/// The positions of a member's points: each is a checksum of the address and of the point before.
fn points(address: SocketAddr, weight: u32) -> impl Iterator<Item = u32> {
    let mut start = crc32fast::Hasher::new();
    start.update(format!("{}\0{}", address.ip(), address.port()).as_bytes());
    let mut last: u32 = 0;
    (0..weight * POINTS).map(move |_| {
        let mut hasher = start.clone();
        hasher.update(&last.to_le_bytes());
        last = hasher.finalize();
        last
    })
}

/// The weight on the ring; `None` for a member without points.
fn points_weight(weight: u16, heaviest: u16) -> Option<u32> {
    if weight == 0 {
        return None;
    }
    if heaviest <= MOST_WEIGHT {
        return Some(u32::from(weight));
    }
    let scaled = u32::from(weight) * u32::from(MOST_WEIGHT) / u32::from(heaviest);
    Some(scaled.max(1))
}

/// nginx's points are those of IP addresses. A Unix socket is represented by an address of the discard prefix
/// `100::/64`, which no backend can have, with 64 bits and a port from a hash of its path.
fn node(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => {
            let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
            let mut octets = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0).octets();
            octets[8..].copy_from_slice(&hash[..8]);
            SocketAddr::from((octets, u16::from_be_bytes([hash[8], hash[9]])))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use pingora_ketama::{Bucket, Continuum};
    use proptest::prelude::*;
    use std::collections::HashSet;

    type Weighted = (Address, u16);

    fn address(n: u16) -> Address {
        match n % 7 {
            6 => Address::Unix(format!("/run/{n}").into()),
            _ => Address::Tcp(([10, 0, (n >> 8) as u8, n as u8], 80 + n % 3).into()),
        }
    }

    fn ring(builder: &mut RingBuilder, members: &[Weighted]) -> Ring {
        builder.update(members.iter().map(|(address, weight)| (address, *weight)))
    }

    /// pingora_ketama's ring of the members.
    fn continuum(members: &[Weighted]) -> Continuum {
        let heaviest = members.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
        let bucket = |(address, weight): &Weighted| {
            Some(Bucket::new(node(address), points_weight(*weight, heaviest)?))
        };
        Continuum::new(&members.iter().filter_map(bucket).collect::<Vec<_>>())
    }

    /// Whether both send every key to the same members, in the same order while some are unavailable.
    fn are_alike(ring: &Ring, members: &[Weighted]) {
        let continuum = continuum(members);
        let points = ring.points_of(|_| true);
        // Of several points at one position, pingora_ketama keeps any one.
        let same = points.windows(2).filter(|two| two[0].hash == two[1].hash);
        let ambiguous: HashSet<u32> = same.map(|two| two[0].hash).collect();
        for n in 0..200 {
            let key = format!("key-{n}");
            let hash = position(key.as_bytes());
            let (before, from) = points.split_at(points.partition_point(|point| point.hash < hash));
            let following = from.iter().chain(before).take(20);
            let clear = following.take_while(|point| !ambiguous.contains(&point.hash)).count();
            let found = ring.members_from(hash).map(|index| node(&members[index].0));
            let expected = continuum.node_iter(key.as_bytes()).copied();
            assert!(found.take(clear).eq(expected.take(clear)), "{key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_ring_after_changes_is_like_a_new_one(
            memberships in prop::collection::vec(
                prop::collection::btree_map(0_u16..60, prop_oneof![4 => Just(1_u16), 2 => 0_u16..6, 1 => 90_u16..400], 1..40),
                1..8,
            ),
        ) {
            let mut builder = RingBuilder::default();
            for membership in memberships {
                let members: Vec<_> = membership.into_iter().map(|(n, weight)| (address(n), weight)).collect();
                let changed = ring(&mut builder, &members);
                if members.iter().any(|(_, weight)| *weight > 0) {
                    are_alike(&changed, &members);
                } else {
                    prop_assert_eq!(changed.members_from(7).next(), None);
                }
            }
        }
    }

    #[test]
    fn members_of_a_large_ring_come_and_go() {
        let mut builder = RingBuilder::default();
        let mut members: Vec<_> = (0..400).map(|n| (address(n), 1)).collect();
        let first = ring(&mut builder, &members);
        are_alike(&first, &members);
        let before = members.clone();
        for n in 400..420 {
            members.remove(usize::from(n * 7 % 300));
            members.push((address(n), 1));
            let sections = builder.sections.clone();
            let changed = ring(&mut builder, &members);
            assert!(builder.sections.len() > 256);
            let same = sections.iter().zip(&builder.sections).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
            assert!(same > sections.len() / 3, "{same} of {} sections are those of before", sections.len());
            are_alike(&changed, &members);
        }
        are_alike(&first, &before);
        assert!(builder.addresses.len() < 410, "slots are used again");
    }

    #[test]
    fn few_members_are_found_by_their_own_points() {
        let members: Vec<_> = (0..300).map(|n| (address(n), 1)).collect();
        let all = ring(&mut RingBuilder::default(), &members);
        let is_last = |index: usize| index == 299;
        let points = all.points_of(is_last);
        assert_eq!(points.len(), 160);
        let far = (0..2000_u32).map(|n| position(&n.to_be_bytes()));
        let far: Vec<_> = far.filter(|hash| all.find_near(*hash, is_last) == Err(TooFar)).collect();
        assert!(!far.is_empty());
        for hash in far {
            assert_eq!(find_among(&points, hash, is_last), all.find(hash, is_last));
        }
        let some = |index: usize| index % 10 == 3;
        let points = all.points_of(some);
        for hash in (0..2000_u32).map(|n| position(&n.to_be_bytes())) {
            assert_eq!(find_among(&points, hash, some), all.find(hash, some));
        }
    }
}
