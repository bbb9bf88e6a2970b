//! Slow start: how much of its weight an endpoint has got since it joined. What a share
//! means to a choice is the balance's. Time is handed in.

use super::endpoint::Endpoint;
use super::join_time::ALWAYS;

/// A whole weight, in the parts that shares are counted in.
pub(super) const WHOLE: u32 = 1000;
/// What of its weight an endpoint begins with: nothing at all would leave it cold for ever.
const FIRST: u64 = 100;

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
    use crate::upstream::join_time::JoinTime;

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
