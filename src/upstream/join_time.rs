//! The time when an endpoint joined its upstream, or came back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// It was there from the start.
pub(super) const ALWAYS: u64 = 0;
/// It is there and has not been usable yet.
const EXPECTED: u64 = u64::MAX;

/// When an endpoint came, or came back, in milliseconds of this room's clock.
///
/// Noted whether or not there is a slow start: a reload may ask for one while somebody is new.
#[derive(Debug, Default)]
pub(super) struct JoinTime(AtomicU64);

impl JoinTime {
    /// It comes now.
    pub(super) fn begin(&self, now: u64) {
        self.0.store(now, Relaxed);
    }

    /// It comes when its first probes say that it is well.
    pub(super) fn expect(&self) {
        self.0.store(EXPECTED, Relaxed);
    }

    /// Its first probes say so.
    pub(super) fn begin_if_expected(&self, now: u64) {
        // Who loses against another verdict of the same moment has nothing to add.
        let _ = self.0.compare_exchange(EXPECTED, now, Relaxed, Relaxed);
    }

    /// Takes over what is known of the same endpoint.
    pub(super) fn inherit(&self, prior: &Self) {
        self.0.store(prior.moment(), Relaxed);
    }

    pub(super) fn moment(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
