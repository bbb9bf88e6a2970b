//! Lookups of host names: results, and slow ones.

use super::exposition::Exposition;
use super::names;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupResult {
    /// The name has addresses.
    Resolved,
    /// The name has no addresses.
    NotFound,
    /// A name server or the system returned an error.
    Failed,
    /// No name server responded in time.
    TimedOut,
}

impl LookupResult {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Resolved, "resolved"),
        (Self::NotFound, "not_found"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timed_out"),
    ];
}

/// All lookups of the process.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    ended: [AtomicU64; LookupResult::ALL.len()],
    slow: AtomicU64,
}

impl Lookups {
    /// Counts a finished lookup.
    pub(crate) fn done(&self, result: LookupResult) {
        if let Some(count) = self.ended.get(result as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a lookup that took longer than 1 s.
    pub(crate) fn slow(&self) {
        self.slow.fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for ((_, label), count) in LookupResult::ALL.iter().zip(&self.ended) {
            scrape.counter(&names::NAME_LOOKUPS, &[label], count.load(Relaxed) as f64);
        }
        scrape.counter(&names::NAME_LOOKUPS_SLOW, &[], self.slow.load(Relaxed) as f64);
    }
}
