//! The open tunnels of each endpoint, so that a drain of an endpoint looks at its tunnels alone.

use super::member::Member;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Opening and closing a tunnel lock one shard.
const SHARDS: usize = 32;

type Tunnels = HashMap<u64, Arc<Member>, RandomState>;

/// The tunnels by endpoint, and by their IDs.
#[derive(Debug, Default)]
pub(super) struct EndpointIndex {
    shards: [Mutex<HashMap<u64, Tunnels, RandomState>>; SHARDS],
}

impl EndpointIndex {
    /// Adds a tunnel of an endpoint; 0 is none.
    pub(super) fn add(&self, endpoint: u64, member: &Arc<Member>) {
        if endpoint != 0 {
            let mut shard = self.shard(endpoint).lock();
            shard.entry(endpoint).or_default().insert(member.id(), Arc::clone(member));
        }
    }

    /// Removes a tunnel from an endpoint; 0 is none.
    pub(super) fn remove(&self, endpoint: u64, member: &Member) {
        if endpoint == 0 {
            return;
        }
        if let Entry::Occupied(mut tunnels) = self.shard(endpoint).lock().entry(endpoint) {
            tunnels.get_mut().remove(&member.id());
            if tunnels.get().is_empty() {
                tunnels.remove();
            }
        }
    }

    /// Calls `on` with each tunnel of an endpoint, under a lock that opening tunnels takes.
    pub(super) fn each(&self, endpoint: u64, on: impl FnMut(&Arc<Member>)) {
        if let Some(tunnels) = self.shard(endpoint).lock().get(&endpoint) {
            tunnels.values().for_each(on);
        }
    }

    fn shard(&self, endpoint: u64) -> &Mutex<HashMap<u64, Tunnels, RandomState>> {
        // Below `SHARDS`.
        &self.shards[(endpoint % SHARDS as u64) as usize]
    }
}
