//! Ketama ring of the members, by [`pingora_ketama`], nginx's algorithm.
//!
//! Every member has points on it, unavailable ones included. While a member is unavailable, only its own keys
//! move, each to the next member on the ring, and they return with it.

use super::{Candidates, Group};
use crate::upstream::Address;
use pingora_ketama::{Bucket, Continuum};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};

/// The ring has 160 points per unit of weight; larger weights are scaled down together. A thousand members
/// with a thousand points each would be 160 million.
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

    /// The first candidate at or after the key's position, skipping points of unavailable members.
    pub(super) fn find(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        if candidates.is_empty() || self.members.is_empty() {
            return None;
        }
        // The iterator of a non-empty ring never ends, and a candidate without points cannot be found. So the
        // search stops after one round.
        let most = self.members.len() * usize::from(MOST_WEIGHT) * 160;
        self.points
            .node_iter(key)
            .take(most)
            .filter_map(|node| self.members.get(node).copied())
            .find(|index| candidates.contains(*index))
    }
}

/// The weight on the ring; `None` for a member without points ([`Bucket::new`] panics at 0).
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

/// The ring supports only IP addresses. A Unix socket is represented by an address of the discard prefix
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
