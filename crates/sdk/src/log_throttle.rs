//! A rate limit on log lines that a client or a backend can cause at will. The first line of a kind is written at
//! once; then a line per second counts the suppressed ones, by message and object.
//!
//! A suppressed line costs one short lock on one of many shards and no allocation.

use log::Level;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// The interval at which suppressed lines are counted.
pub const EVERY: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// The maximum number of kinds at a time. Lines of further kinds are written.
const MOST: usize = 4096;

/// A kind of line whose last one is less than [`EVERY`] ago.
struct Kind {
    level: Level,
    message: &'static str,
    object: Box<str>,
    held_back: u64,
}

/// The state of repeated lines.
pub struct LogThrottle {
    shards: [Mutex<HashMap<u64, Kind, BuildHasherDefault<DefaultHasher>>>; SHARDS],
    kinds: AtomicUsize,
    counted: AtomicBool,
    hasher: RandomState,
}

static PROCESS: LazyLock<LogThrottle> = LazyLock::new(LogThrottle::new);

/// Whether to write this line: it is the first with this message and object for a while. Otherwise it is counted.
/// `object` is the subject of the line, in parts from a set that the configuration bounds: a route, an upstream, a
/// plugin, a reason.
pub fn admit(level: Level, message: &'static str, object: &[&str]) -> bool {
    // Disabled levels are not counted.
    level > log::max_level() || PROCESS.admit(level, message, object)
}

/// Writes the number of lines suppressed since the last call; to be called every [`EVERY`]. Lines are suppressed
/// from the first call on. Returns whether there may be something to count later.
pub fn count() -> bool {
    PROCESS.count(|level, message, object, repeated| {
        log::log!(target: "moongate", level, object, repeated; "{message}");
    })
}

impl LogThrottle {
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
            let mut lines = Vec::new();
            let mut kinds = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = kinds.len();
            // A kind that was quiet for a while starts again.
            kinds.retain(|_, kind| kind.held_back > 0);
            self.kinds.fetch_sub(before - kinds.len(), Relaxed);
            for kind in kinds.values_mut() {
                lines.push((
                    kind.level,
                    kind.message,
                    kind.object.clone(),
                    std::mem::take(&mut kind.held_back),
                ));
            }
            drop(kinds);
            for (level, message, object, repeated) in lines {
                write(level, message, &object, repeated);
            }
        }
        self.kinds.load(Relaxed) > 0
    }
}

/// The non-empty parts, joined into one text.
fn named(object: &[&str]) -> Box<str> {
    let parts: Vec<_> = object.iter().filter(|part| !part.is_empty()).copied().collect();
    parts.join("/").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(throttle: &LogThrottle) -> Vec<(&'static str, String, u64)> {
        let mut lines = Vec::new();
        throttle.count(|_, message, object, count| lines.push((message, object.to_owned(), count)));
        lines.sort();
        lines
    }

    #[test]
    fn the_first_is_written_and_the_rest_counted_by_message_and_object() {
        let throttle = LogThrottle::new();
        assert!(counts(&throttle).is_empty());
        let admit = |message, object| throttle.admit(Level::Warn, message, &[object, ""]);
        assert!(admit("request failed", "a"));
        for _ in 0..1000 {
            assert!(!admit("request failed", "a"));
        }
        assert!(admit("request failed", "b") && admit("plugin failed", "a"));
        assert!(!admit("plugin failed", "a"));
        let expected = [("plugin failed", "a".to_owned(), 1), ("request failed", "a".to_owned(), 1000)];
        assert_eq!(counts(&throttle), expected);
        assert!(!admit("request failed", "a"), "the burst continues");
        assert!(admit("request failed", "b"), "a quiet kind starts again");
    }

    #[test]
    fn a_burst_that_ends_is_counted_to_its_last_line() {
        let throttle = LogThrottle::new();
        counts(&throttle);
        let admit = || throttle.admit(Level::Error, "x", &["y"]);
        assert!(admit() && !admit() && !admit());
        assert_eq!(counts(&throttle), [("x", "y".to_owned(), 2)]);
        assert!(counts(&throttle).is_empty());
        assert_eq!(throttle.kinds.load(Relaxed), 0);
        assert!(admit());
    }

    #[test]
    fn kinds_beyond_the_maximum_are_written_and_not_kept() {
        let throttle = LogThrottle::new();
        counts(&throttle);
        for number in 0..MOST * 2 {
            assert!(throttle.admit(Level::Warn, "x", &[&number.to_string()]));
        }
        assert_eq!(throttle.kinds.load(Relaxed), MOST);
    }

    #[test]
    fn without_a_counting_task_every_line_is_written() {
        let throttle = LogThrottle::new();
        assert!(throttle.admit(Level::Warn, "x", &["y"]) && throttle.admit(Level::Warn, "x", &["y"]));
    }
}
