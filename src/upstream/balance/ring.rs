//! The ketama ring over our members. The ring itself is [`pingora_ketama`], nginx's algorithm.
//!
//! Every member stands on it, also one that is out: when it comes back it gets its own keys back,
//! and while it is away only its own keys go elsewhere, each to the next on the ring.

use super::{Candidates, Group};
use crate::upstream::Address;
use pingora_ketama::{Bucket, Continuum};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};

/// The ring has 160 points for each unit of weight; above this, weights are scaled down together.
/// A thousand points for a thousand members would be 160 million of them.
const MOST_WEIGHT: u16 = 100;

pub(super) struct Ring {
    points: Continuum,
    members: HashMap<SocketAddr, usize>,
}

impl Ring {
    pub(super) fn new(group: &Group<'_>) -> Self {
        let heaviest = group.members.iter().map(|member| member.weight()).max().unwrap_or(1);
        let mut members = HashMap::with_capacity(group.members.len());
        let mut buckets = Vec::with_capacity(group.members.len());
        for (index, member) in group.members.iter().enumerate() {
            let Some(weight) = points_weight(member.weight(), heaviest) else { continue };
            let node = node(member.endpoint().address());
            members.insert(node, index);
            buckets.push(Bucket::new(node, weight));
        }
        Self { points: Continuum::new(&buckets), members }
    }

    /// The first candidate from the key's place on. Walks over points of members that are out.
    pub(super) fn find(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        if candidates.is_empty() || self.members.is_empty() {
            return None;
        }
        // The iterator of an empty ring ends, any other goes round forever: a candidate that is not
        // on the ring cannot be found, so we stop after one round.
        let most = self.members.len() * usize::from(MOST_WEIGHT) * 160;
        self.points
            .node_iter(key)
            .take(most)
            .filter_map(|node| self.members.get(node).copied())
            .find(|index| candidates.contains(*index))
    }
}

/// The weight on the ring; none for what must not stand on it ([`Bucket::new`] panics at 0).
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

/// The ring knows IP addresses only: a path stands there as an address of the discard prefix,
/// `100::/64`, that no backend can have, with 64 bits and a port from its hash.
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
