//! Instances by name, kept only as long as somebody uses them.
//!
//! A snapshot, a request or a tunnel holds its handle; when the last of them is gone, so is the series. A reload that keeps
//! a name finds the instance of the generation before, because that one is dropped after the new one was built. Nobody has to
//! tell the metrics what a reload or a discovery removed.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Below this many names a sweep is not worth its time.
const SWEEP_FROM: usize = 64;

/// Living instances by key.
#[derive(Debug)]
pub(super) struct WeakRegistry<K, V> {
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    instances: HashMap<K, Weak<V>>,
    sweep_at: usize,
}

impl<K, V> Default for WeakRegistry<K, V> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { instances: HashMap::new(), sweep_at: SWEEP_FROM }) }
    }
}

impl<K: Eq + Hash, V> WeakRegistry<K, V> {
    /// The living instance of `key`, or a new one from `make`.
    pub(super) fn get(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut inner = self.inner.lock();
        if let Some(living) = inner.instances.get(&key).and_then(Weak::upgrade) {
            return living;
        }
        if inner.instances.len() >= inner.sweep_at {
            inner.sweep();
        }
        let fresh = Arc::new(make());
        inner.instances.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// All living instances; the names of dead ones are forgotten.
    pub(super) fn living(&self) -> Vec<Arc<V>> {
        let mut inner = self.inner.lock();
        inner.sweep();
        inner.instances.values().filter_map(Weak::upgrade).collect()
    }
}

impl<K: Eq + Hash, V> Inner<K, V> {
    // Sweeping when the number has doubled keeps both the memory and the time per name constant, scraped or not.
    fn sweep(&mut self) {
        self.instances.retain(|_, instance| instance.strong_count() > 0);
        self.sweep_at = (self.instances.len() * 2).max(SWEEP_FROM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_use_keeps_its_instance() {
        let shelf = WeakRegistry::<&str, u8>::default();
        let first = shelf.get("a", || 1);
        assert!(Arc::ptr_eq(&first, &shelf.get("a", || 2)));
        drop(first);
        assert_eq!(*shelf.get("a", || 3), 3);
        assert!(shelf.living().is_empty());
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let shelf = WeakRegistry::<usize, ()>::default();
        for name in 0..100_000 {
            shelf.get(name, || ());
        }
        assert!(shelf.inner.lock().instances.len() <= SWEEP_FROM);
    }
}
