//! A bound on log lines that a client or a backend can cause at will: the first line of its kind at once, then once a
//! second how many more there were, by message and object.
//!
//! A line that is held back costs one short lock on one of many shards and no allocation.

use log::Level;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// How often the lines that were held back are counted.
pub const EVERY: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// The most kinds of lines at a time. Those beyond are written, as nobody counts them.
const MOST: usize = 4096;

/// A kind of line whose last one is less than [`EVERY`] ago.
struct Kind {
    level: Level,
    message: &'static str,
    object: Box<str>,
    held_back: u64,
}

/// What is known of repeated lines.
pub struct Repeated {
    shards: [Mutex<HashMap<u64, Kind, BuildHasherDefault<DefaultHasher>>>; SHARDS],
    kinds: AtomicUsize,
    counted: AtomicBool,
    hasher: RandomState,
}

static PROCESS: LazyLock<Repeated> = LazyLock::new(Repeated::new);

/// Whether this line is to be written now: it is the first with this message and object for a while. Otherwise it is
/// counted. `object` is what the line is about, in parts of a set that the configuration bounds: a route, an upstream, a
/// plugin, a reason.
pub fn admit(level: Level, message: &'static str, object: &[&str]) -> bool {
    // A level that is not logged is not worth counting.
    level > log::max_level() || PROCESS.admit(level, message, object)
}

/// Writes how many lines were held back since the last call; to be called every [`EVERY`]. Lines are held back from the
/// first call on. Returns whether there is something to count later.
pub fn count() -> bool {
    PROCESS.count(|level, message, object, repeated| {
        log::log!(target: "moongate", level, object, repeated; "{message}");
    })
}

impl Repeated {
    fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            kinds: AtomicUsize::new(0),
            counted: AtomicBool::new(false),
            hasher: RandomState::new(),
        }
    }

    fn admit(&self, level: Level, message: &'static str, object: &[&str]) -> bool {
        if !self.counted.load(Relaxed) {
            return true;
        }
        let key = self.hasher.hash_one((message, object));
        let shard = &self.shards[key as usize % SHARDS];
        let mut kinds = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = kinds.get_mut(&key) {
            kind.held_back += 1;
            return false;
        }
        if self.kinds.load(Relaxed) < MOST {
            self.kinds.fetch_add(1, Relaxed);
            kinds.insert(key, Kind { level, message, object: named(object), held_back: 0 });
        }
        true
    }

    fn count(&self, mut write: impl FnMut(Level, &'static str, &str, u64)) -> bool {
        self.counted.store(true, Relaxed);
        for shard in &self.shards {
            let mut told = Vec::new();
            let mut kinds = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = kinds.len();
            // What was silent for a while is the first of its kind again.
            kinds.retain(|_, kind| kind.held_back > 0);
            self.kinds.fetch_sub(before - kinds.len(), Relaxed);
            for kind in kinds.values_mut() {
                told.push((
                    kind.level,
                    kind.message,
                    kind.object.clone(),
                    std::mem::take(&mut kind.held_back),
                ));
            }
            drop(kinds);
            for (level, message, object, repeated) in told {
                write(level, message, &object, repeated);
            }
        }
        self.kinds.load(Relaxed) > 0
    }
}

/// The parts that are not empty, in one text.
fn named(object: &[&str]) -> Box<str> {
    let parts: Vec<_> = object.iter().filter(|part| !part.is_empty()).copied().collect();
    parts.join("/").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(repeated: &Repeated) -> Vec<(&'static str, String, u64)> {
        let mut told = Vec::new();
        repeated.count(|_, message, object, count| told.push((message, object.to_owned(), count)));
        told.sort();
        told
    }

    #[test]
    fn the_first_is_written_and_the_rest_counted_by_message_and_object() {
        let repeated = Repeated::new();
        assert!(counts(&repeated).is_empty());
        let admit = |message, object| repeated.admit(Level::Warn, message, &[object, ""]);
        assert!(admit("request failed", "a"));
        for _ in 0..1000 {
            assert!(!admit("request failed", "a"));
        }
        assert!(admit("request failed", "b") && admit("plugin failed", "a"));
        assert!(!admit("plugin failed", "a"));
        let expected = [("plugin failed", "a".to_owned(), 1), ("request failed", "a".to_owned(), 1000)];
        assert_eq!(counts(&repeated), expected);
        assert!(!admit("request failed", "a"), "a storm goes on");
        assert!(admit("request failed", "b"), "one that was silent begins anew");
    }

    #[test]
    fn a_storm_that_ends_is_counted_to_its_last_line() {
        let repeated = Repeated::new();
        counts(&repeated);
        let admit = || repeated.admit(Level::Error, "x", &["y"]);
        assert!(admit() && !admit() && !admit());
        assert_eq!(counts(&repeated), [("x", "y".to_owned(), 2)]);
        assert!(counts(&repeated).is_empty());
        assert_eq!(repeated.kinds.load(Relaxed), 0);
        assert!(admit());
    }

    #[test]
    fn kinds_without_number_are_written_and_not_kept() {
        let repeated = Repeated::new();
        counts(&repeated);
        for number in 0..MOST * 2 {
            assert!(repeated.admit(Level::Warn, "x", &[&number.to_string()]));
        }
        assert_eq!(repeated.kinds.load(Relaxed), MOST);
    }

    #[test]
    fn without_somebody_who_counts_every_line_is_written() {
        let repeated = Repeated::new();
        assert!(repeated.admit(Level::Warn, "x", &["y"]) && repeated.admit(Level::Warn, "x", &["y"]));
    }
}
