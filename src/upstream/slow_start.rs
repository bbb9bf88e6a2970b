//! Slow start: when an endpoint joined, and the part of its weight that applies since then. Balancers
//! interpret the share. The caller passes the time.

use super::endpoint::Endpoint;
use super::join_time::ALWAYS;

/// A full weight, in the units of shares.
pub(super) const WHOLE: u32 = 1000;
/// The share at the beginning; with 0 the endpoint would never receive a request.
const FIRST: u64 = 100;

/// The slow start of an upstream at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart {
    now: u64,
    over: u64,
}

impl SlowStart {
    /// The slow start at `now`, for a duration of `over` milliseconds.
    pub(super) fn at(now: u64, over: u64) -> Self {
        Self { now, over }
    }

    /// Returns whether an endpoint has not reached its full weight.
    pub(super) fn is_new(self, endpoint: &Endpoint) -> bool {
        self.part(endpoint.joined_at(self.now)) < WHOLE
    }

    /// The duration in milliseconds.
    pub(super) fn duration(self) -> u64 {
        self.over
    }

    /// When the slow start of an endpoint ends, if it has not ended.
    pub(super) fn end(self, endpoint: &Endpoint) -> Option<u64> {
        self.is_new(endpoint).then(|| endpoint.joined_at(self.now).saturating_add(self.over))
    }

    /// The current part of a weight of 1, in thousandths.
    pub(super) fn of(self, endpoint: &Endpoint) -> u32 {
        self.part(endpoint.joined_at(self.now))
    }

    fn part(self, joined: u64) -> u32 {
        let since = self.now.saturating_sub(joined);
        if joined == ALWAYS || since >= self.over {
            return WHOLE;
        }
        let grown = since.saturating_mul(u64::from(WHOLE)) / self.over;
        u32::try_from(grown.max(FIRST)).unwrap_or(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::join_time::JoinTime;

    #[test]
    fn a_weight_grows_from_a_tenth_to_the_whole() {
        let part = |now| SlowStart::at(now, 30_000).part(1000);
        assert_eq!([1000, 1001, 4000, 16_000, 30_999].map(part), [100, 100, 100, 500, 999]);
        assert_eq!([31_000, 60_000, u64::MAX - 1].map(part), [WHOLE; 3]);
    }

    #[test]
    fn an_endpoint_present_at_startup_is_never_new_and_an_expected_one_is() {
        let slow = SlowStart::at(5, 30_000);
        assert_eq!(slow.part(JoinTime::default().moment()), WHOLE);
        let join_time = JoinTime::default();
        join_time.begin_if_expected(3);
        assert_eq!(join_time.moment(), ALWAYS);
        join_time.expect();
        assert_eq!(slow.part(join_time.moment()), 100);
        join_time.begin_if_expected(3);
        assert_eq!(join_time.moment(), 3);
    }
}
