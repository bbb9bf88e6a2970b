//! Slow start: when an endpoint came, and how much of its weight it has got since then. What a share
//! means to a choice is the balance's. Time is handed in.

use super::endpoint::Endpoint;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A whole weight, in the parts that shares are counted in.
pub(super) const WHOLE: u32 = 1000;
/// What of its weight an endpoint begins with: nothing at all would leave it cold for ever.
const FIRST: u64 = 100;

/// It was there from the start.
const ALWAYS: u64 = 0;
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

/// The slow start of an upstream at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart {
    now: u64,
    over: u64,
}

impl SlowStart {
    /// At `now`, where weights grow over so many milliseconds.
    pub(super) fn at(now: u64, over: u64) -> Self {
        Self { now, over }
    }

    /// Whether an endpoint has not got its whole weight yet.
    pub(super) fn is_new(self, endpoint: &Endpoint) -> bool {
        self.part(endpoint.came(self.now)) < WHOLE
    }

    /// How much of a weight of 1 an endpoint has got, in thousandths.
    pub(super) fn of(self, endpoint: &Endpoint) -> u32 {
        self.part(endpoint.came(self.now))
    }

    fn part(self, came: u64) -> u32 {
        let since = self.now.saturating_sub(came);
        if came == ALWAYS || since >= self.over {
            return WHOLE;
        }
        let grown = since.saturating_mul(u64::from(WHOLE)) / self.over;
        u32::try_from(grown.max(FIRST)).unwrap_or(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_grows_from_a_tenth_to_the_whole() {
        let part = |now| SlowStart::at(now, 30_000).part(1000);
        assert_eq!([1000, 1001, 4000, 16_000, 30_999].map(part), [100, 100, 100, 500, 999]);
        assert_eq!([31_000, 60_000, u64::MAX - 1].map(part), [WHOLE; 3]);
    }

    #[test]
    fn who_was_always_there_is_never_new_and_who_is_expected_is() {
        let slow = SlowStart::at(5, 30_000);
        assert_eq!(slow.part(JoinTime::default().moment()), WHOLE);
        let arrival = JoinTime::default();
        arrival.begin_if_expected(3);
        assert_eq!(arrival.moment(), ALWAYS);
        arrival.expect();
        assert_eq!(slow.part(arrival.moment()), 100);
        arrival.begin_if_expected(3);
        assert_eq!(arrival.moment(), 3);
    }
}
