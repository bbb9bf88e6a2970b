//! Join time of an endpoint, the start of its slow start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Present at startup.
pub(super) const ALWAYS: u64 = 0;
/// Joined, but not healthy yet.
const EXPECTED: u64 = u64::MAX;

/// When an endpoint joined or recovered, in milliseconds of the monotonic clock.
///
/// Recorded even without `slow_start`: a reload may enable it while an endpoint is new.
#[derive(Debug, Default)]
pub(super) struct JoinTime(AtomicU64);

impl JoinTime {
    /// Joins now.
    pub(super) fn begin(&self, now: u64) {
        self.0.store(now, Relaxed);
    }

    /// Joins when its first probes succeed.
    pub(super) fn expect(&self) {
        self.0.store(EXPECTED, Relaxed);
    }

    /// The first probes succeeded.
    pub(super) fn begin_if_expected(&self, now: u64) {
        // A failed exchange means that a concurrent verdict was recorded first.
        let _ = self.0.compare_exchange(EXPECTED, now, Relaxed, Relaxed);
    }

    /// The time since it joined; `None` for an endpoint that was present at startup, or is not healthy yet.
    pub(super) fn age(&self, now: u64) -> Option<u64> {
        match self.moment() {
            ALWAYS | EXPECTED => None,
            moment => Some(now.saturating_sub(moment)),
        }
    }

    /// Copies the join time from the previous generation.
    pub(super) fn inherit(&self, prior: &Self) {
        self.0.store(prior.moment(), Relaxed);
    }

    pub(super) fn moment(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
