//! Changes of endpoints, as far as a selection depends on them: what an upstream prepares for its selections is valid for
//! one version.

use super::load_order::LoadOrder;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What one generation of an upstream learns of its endpoints.
#[derive(Debug, Default)]
pub(super) struct EndpointWatch {
    /// Counts the changes of its endpoints and of their set.
    version: AtomicU64,
    /// The candidates by load, if the balancer compares loads.
    load_order: Option<Mutex<LoadOrder>>,
}

impl EndpointWatch {
    pub(super) fn new(orders_by_load: bool) -> Arc<Self> {
        let load_order = orders_by_load.then(Mutex::default);
        Arc::new(Self { version: AtomicU64::new(0), load_order })
    }

    /// The version. Read it before the state of endpoints: a change in between makes it an old one.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Begins another version, after a change.
    pub(super) fn announce_change(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn load_order(&self) -> Option<&Mutex<LoadOrder>> {
        self.load_order.as_ref()
    }
}

/// The watches of one endpoint: of the generation that serves, and of one that is being prepared.
#[derive(Debug, Default)]
pub(super) struct EndpointWatches {
    watches: Mutex<Vec<Weak<EndpointWatch>>>,
    /// Whether one of them has candidates in the order of their loads. Otherwise the end of a request takes no lock.
    is_ordered: AtomicBool,
}

impl EndpointWatches {
    /// Announces each end of a request or WebSocket from now on.
    pub(super) fn announce_leaves(&self) {
        self.is_ordered.store(true, Ordering::Relaxed);
    }

    /// Adds a watch, unless it is one already.
    pub(super) fn add(&self, watch: &Arc<EndpointWatch>) {
        let mut watches = self.watches.lock();
        if watches.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(watch))) {
            return;
        }
        watches.retain(|known| known.strong_count() > 0);
        watches.push(Arc::downgrade(watch));
    }

    /// The state of the endpoint has changed.
    pub(super) fn announce_change(&self) {
        self.watches.lock().iter().filter_map(Weak::upgrade).for_each(|watch| watch.announce_change());
    }

    /// The load of the endpoint with this key has fallen.
    pub(super) fn announce_leave(&self, key: u64, active: impl Fn() -> usize) {
        if !self.is_ordered.load(Ordering::Relaxed) {
            return;
        }
        for watch in self.watches.lock().iter().filter_map(Weak::upgrade) {
            if let Some(order) = &watch.load_order {
                // Read within the lock: the last one to correct the order has the last load.
                order.lock().correct(key, &active);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_learns_of_a_change_once() {
        let watches = EndpointWatches::default();
        let (one, other) = (EndpointWatch::new(false), EndpointWatch::new(false));
        for watch in [&one, &other, &one] {
            watches.add(watch);
        }
        watches.announce_change();
        assert_eq!([one.version(), other.version()], [1, 1]);
        drop(one);
        watches.add(&EndpointWatch::new(false));
        watches.announce_change();
        assert_eq!(other.version(), 2);
        assert_eq!(watches.watches.lock().len(), 2, "one that is gone is forgotten");
    }
}
