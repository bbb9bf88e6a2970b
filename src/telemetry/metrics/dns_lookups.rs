//! Lookups of host names: how they ended, and how many were slow.

use super::exposition::Exposition;
use super::names;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// With addresses.
    Resolved,
    /// The name has no address.
    NotFound,
    /// A name server, or the system, refused.
    Failed,
    /// No name server answered in time.
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
pub struct Lookups {
    ended: [AtomicU64; LookupResult::ALL.len()],
    slow: AtomicU64,
}

impl Lookups {
    /// A lookup ended.
    pub fn done(&self, result: LookupResult) {
        if let Some(count) = self.ended.get(result as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A lookup takes long.
    pub fn slow(&self) {
        self.slow.fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for ((_, label), count) in LookupResult::ALL.iter().zip(&self.ended) {
            scrape.counter(&names::NAME_LOOKUPS, &[label], count.load(Relaxed) as f64);
        }
        scrape.counter(&names::NAME_LOOKUPS_SLOW, &[], self.slow.load(Relaxed) as f64);
    }
}
