//! Weak registry: instances by name, kept as long as a handle exists.
//!
//! Snapshots, requests and tunnels hold handles; a series is dropped with its last handle. A reload that
//! keeps a name finds the existing instance, because the previous generation is dropped after the new one is
//! built.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Below this many names, dead entries are not removed.
const SWEEP_FROM: usize = 64;

/// Weak references to instances by key.
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
    /// The existing instance of `key`, or a new one from `make`.
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

    /// All existing instances; dead entries are removed.
    pub(super) fn instances(&self) -> Vec<Arc<V>> {
        let mut inner = self.inner.lock();
        inner.sweep();
        inner.instances.values().filter_map(Weak::upgrade).collect()
    }
}

impl<K: Eq + Hash, V> Inner<K, V> {
    // Sweeping after the number has doubled keeps memory and the time per name constant, also without
    // scrapes.
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
        let registry = WeakRegistry::<&str, u8>::default();
        let first = registry.get("a", || 1);
        assert!(Arc::ptr_eq(&first, &registry.get("a", || 2)));
        drop(first);
        assert_eq!(*registry.get("a", || 3), 3);
        assert!(registry.instances().is_empty());
    }

    #[test]
    fn dead_names_are_removed() {
        let registry = WeakRegistry::<usize, ()>::default();
        for name in 0..100_000 {
            registry.get(name, || ());
        }
        assert!(registry.inner.lock().instances.len() <= SWEEP_FROM);
    }
}
