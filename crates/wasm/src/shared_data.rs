//! Key-value store that filters share across instances, workers and generations.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

/// The maximum size of keys and values in one store, in bytes.
const LARGEST: usize = 16 << 20;

/// The maximum number of keys in one store.
const KEYS: usize = 100_000;

/// The value of a key, and its compare-and-swap number.
type Value = (Arc<[u8]>, u32);

/// The store of one `vm_id`.
#[derive(Debug, Default)]
pub(crate) struct SharedData(Mutex<Store>);

#[derive(Debug, Default)]
struct Store {
    values: HashMap<Box<[u8]>, Value>,
    bytes: usize,
}

/// The reason why a value was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetError {
    /// Another writer set it in between.
    Mismatch,
    /// The store is full.
    Full,
}

static STORES: LazyLock<Mutex<HashMap<Box<str>, Weak<SharedData>>>> = LazyLock::new(Mutex::default);

impl SharedData {
    /// The store with that ID; it lives as long as an entry uses it.
    pub(crate) fn of(id: &str) -> Arc<Self> {
        let mut stores = STORES.lock();
        if let Some(known) = stores.get(id).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::<Self>::default();
        stores.retain(|_, known| known.strong_count() > 0);
        stores.insert(id.into(), Arc::downgrade(&new));
        new
    }

    /// The value of a key, and its compare-and-swap number.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Value> {
        self.0.lock().values.get(key).cloned()
    }

    /// Sets a value; if `cas` is not 0, only if it is the current number of the value.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), SetError> {
        let mut store = self.0.lock();
        let (old, number) =
            store.values.get(key).map_or((None, 0), |(old, number)| (Some(old.len()), *number));
        if cas != 0 && cas != number {
            return Err(SetError::Mismatch);
        }
        let before = old.map_or(0, |length| length + key.len());
        let bytes = store.bytes - before + key.len() + value.len();
        if bytes > LARGEST || old.is_none() && store.values.len() >= KEYS {
            return Err(SetError::Full);
        }
        store.bytes = bytes;
        // 0 means "any" and is never the number of a value.
        let next = number.wrapping_add(1).max(1);
        store.values.insert(key.into(), (value.into(), next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn the_first_write_wins_and_the_second_fails() {
        let data = SharedData::default();
        assert_eq!(data.get(b"a"), None);
        data.set(b"a", b"one", 0).unwrap();
        let (value, number) = data.get(b"a").unwrap();
        assert_eq!((&*value, number), (&b"one"[..], 1));
        data.set(b"a", b"two", number).unwrap();
        assert_eq!(data.set(b"a", b"three", number), Err(SetError::Mismatch));
        assert_eq!(&*data.get(b"a").unwrap().0, b"two");
    }

    #[test]
    fn a_full_store_accepts_only_replacements() {
        let data = SharedData::default();
        let large = vec![0; LARGEST - 1];
        data.set(b"a", &large, 0).unwrap();
        assert_eq!(data.set(b"b", b"x", 0), Err(SetError::Full));
        data.set(b"a", b"small", 0).unwrap();
        data.set(b"b", b"x", 0).unwrap();
    }

    #[test]
    fn entries_of_one_id_share_a_store_until_the_last_ends() {
        let one = SharedData::of("of a test");
        one.set(b"a", b"here", 0).unwrap();
        assert!(SharedData::of("of a test").get(b"a").is_some());
        drop(one);
        assert!(SharedData::of("of a test").get(b"a").is_none());
    }
}
