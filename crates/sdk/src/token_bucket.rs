//! Token bucket arithmetic, without clock, lock or allocation: rate limits of plugins and of the gateway itself.
//!
//! A bucket is one number: the moment at which every token taken so far has been paid for (the generic cell rate
//! algorithm, ITU-T I.371). Nothing has to be refilled, and a bucket whose moment is past is as good as a new one.
//! Moments are nanoseconds since an origin that the caller chooses; 64 bits last for 584 years. Larger values
//! are clamped.

use moongate_config::Rate;
use std::time::Duration;

/// The refill rate and the size of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRate {
    /// Tokens refilled per `period`; never 0.
    tokens: u64,
    /// In nanoseconds; never 0.
    period: u64,
    /// In which time an empty bucket fills, in nanoseconds.
    depth: u64,
}

impl TokenRate {
    /// One token in each `interval`, of which a full bucket holds `burst`. An interval below 1 ns is 1 ns.
    #[must_use]
    pub fn every(interval: Duration, burst: u32) -> Self {
        let period = nanoseconds(interval).max(1);
        Self { tokens: 1, period, depth: period.saturating_mul(u64::from(burst)) }
    }

    /// The refill rate `rate`, with a bucket of `burst` tokens.
    #[must_use]
    pub fn of(rate: Rate, burst: u32) -> Self {
        Self::every(rate.interval(), burst)
    }

    /// So many tokens a second, which a full bucket holds. For many small tokens, such as bytes: their interval may be
    /// less than a nanosecond. 0 is 1.
    #[must_use]
    pub fn per_second(tokens: u64) -> Self {
        Self { tokens: tokens.max(1), period: 1_000_000_000, depth: 1_000_000_000 }
    }

    /// In which time an empty bucket fills, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// In which time so many tokens come back, in nanoseconds, rounded down.
    #[must_use]
    #[inline]
    pub fn cost(&self, tokens: u64) -> u64 {
        let whole = tokens.saturating_mul(self.period);
        // A division is most of the cost of a token, and not needed where each has a whole interval.
        if self.tokens == 1 { whole } else { whole / self.tokens }
    }

    /// How many tokens come back in so many nanoseconds, rounded down.
    #[inline]
    fn tokens_in(&self, time: u64) -> u64 {
        if self.tokens == 1 {
            return time / self.period;
        }
        let tokens = u128::from(time) * u128::from(self.tokens) / u128::from(self.period);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// The tokens taken from a bucket. [`TokenBucket::default`] is full at any moment; the lesser of two has taken less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenBucket(u64);

impl TokenBucket {
    /// The bucket whose tokens are paid for at this moment, as [`TokenBucket::paid_at`] says: for buckets in an atomic.
    #[must_use]
    #[inline]
    pub fn paid_by(moment: u64) -> Self {
        Self(moment)
    }

    /// The moment at which everything taken is paid for, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn paid_at(self) -> u64 {
        self.0
    }

    /// The bucket after tokens of this [cost](TokenRate::cost) were taken at `now`, available or not.
    #[must_use]
    #[inline]
    pub fn charged(self, cost: u64, now: u64) -> Self {
        Self(self.0.max(now).saturating_add(cost))
    }

    /// Takes tokens of this cost if they are available.
    ///
    /// # Errors
    /// The nanoseconds until they are available; none is taken then.
    #[inline]
    pub fn try_take(&mut self, rate: &TokenRate, cost: u64, now: u64) -> Result<(), u64> {
        let next = self.charged(cost, now);
        match next.debt(rate, now) {
            0 => {
                *self = next;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Returns tokens of this cost; the bucket never exceeds full.
    #[inline]
    pub fn give_back(&mut self, cost: u64) {
        self.0 = self.0.saturating_sub(cost);
    }

    /// In how many nanoseconds no more than a full bucket is owed; 0 when it is so.
    #[must_use]
    #[inline]
    pub fn debt(self, rate: &TokenRate, now: u64) -> u64 {
        self.0.saturating_sub(now.saturating_add(rate.depth))
    }

    /// In how many nanoseconds the bucket is full.
    #[must_use]
    #[inline]
    pub fn until_full(self, now: u64) -> u64 {
        self.0.saturating_sub(now)
    }

    /// The number of available tokens.
    #[must_use]
    #[inline]
    pub fn left(self, rate: &TokenRate, now: u64) -> u64 {
        rate.tokens_in(now.saturating_add(rate.depth).saturating_sub(self.0.max(now)))
    }
}

/// A time in nanoseconds, at most 2^64 - 1.
#[must_use]
#[inline]
pub fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// A token bucket as books have it: what is in it, in nanoseconds of its rate.
    struct Filled {
        level: u128,
        depth: u128,
        last: u64,
    }

    impl Filled {
        fn take(&mut self, cost: u64, now: u64) -> bool {
            self.level = (self.level + u128::from(now - self.last)).min(self.depth);
            self.last = now;
            let there = self.level >= u128::from(cost);
            self.level -= if there { u128::from(cost) } else { 0 };
            there
        }

        fn give_back(&mut self, cost: u64) {
            self.level = (self.level + u128::from(cost)).min(self.depth);
        }
    }

    fn rates() -> impl Strategy<Value = TokenRate> {
        let every = |(interval, burst)| TokenRate::every(Duration::from_nanos(interval), burst);
        prop_oneof![
            (1..100_000_000_u64, 1..1000_u32).prop_map(every),
            (1..10_000_000_000_u64).prop_map(TokenRate::per_second),
        ]
    }

    /// Tokens that are taken or given back, and the time before each step.
    fn steps() -> impl Strategy<Value = Vec<(bool, u64, u64)>> {
        proptest::collection::vec((prop::bool::weighted(0.8), 0..50_u64, 0..200_000_000_u64), 1..200)
    }

    proptest! {
        #[test]
        fn it_gives_what_a_bucket_that_is_refilled_gives(rate in rates(), steps in steps()) {
            let mut filled = Filled { level: rate.depth.into(), depth: rate.depth.into(), last: 0 };
            let mut bucket = TokenBucket::default();
            let mut now = 0;
            for (takes, tokens, passed) in steps {
                now += passed;
                let cost = rate.cost(tokens);
                if takes {
                    prop_assert_eq!(bucket.try_take(&rate, cost, now).is_ok(), filled.take(cost, now));
                } else {
                    filled.take(0, now);
                    filled.give_back(cost);
                    bucket.give_back(cost);
                }
                prop_assert_eq!(u128::from(bucket.left(&rate, now)), u128::from(rate.tokens_in(u64::try_from(filled.level).unwrap())));
            }
        }

        #[test]
        fn no_span_of_time_gets_more_than_a_burst_and_the_rate(rate in rates(), steps in steps()) {
            let (mut bucket, mut now, mut taken) = (TokenBucket::default(), 0, Vec::new());
            for (_, tokens, passed) in steps {
                now += passed;
                let cost = rate.cost(tokens);
                if bucket.try_take(&rate, cost, now).is_ok() {
                    taken.push((now, cost));
                }
            }
            for (at, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, cost) in &taken[at..] {
                    sum += cost;
                    prop_assert!(sum <= rate.depth + (end - begin));
                }
            }
        }

        #[test]
        fn a_refusal_takes_nothing_and_tells_the_moment(rate in rates(), paid in 0..1_u64 << 40, now in 0..1_u64 << 40, tokens in 1..50_u64) {
            let cost = rate.cost(tokens).min(rate.depth);
            let mut bucket = TokenBucket::paid_by(paid);
            if let Err(wait) = bucket.try_take(&rate, cost, now) {
                prop_assert_eq!(bucket.paid_at(), paid);
                prop_assert!(bucket.try_take(&rate, cost, now + wait - 1).is_err());
                prop_assert!(bucket.try_take(&rate, cost, now + wait).is_ok());
            }
        }

        #[test]
        fn what_is_left_can_be_taken(rate in rates(), paid in 0..1_u64 << 31, now in 0..1_u64 << 31) {
            let bucket = TokenBucket::paid_by(paid.min(now.saturating_add(rate.depth)));
            let left = bucket.left(&rate, now);
            let mut copy = bucket;
            prop_assert!(copy.try_take(&rate, rate.cost(left), now).is_ok());
            let mut copy = bucket;
            // One nanosecond for what the costs of few tokens are rounded down by.
            prop_assert!(copy.try_take(&rate, rate.cost(left + 1) + 1, now).is_err());
        }

        #[test]
        fn no_number_overflows(interval: u64, burst: u32, per_second: u64, paid: u64, now: u64, tokens: u64) {
            for rate in [TokenRate::every(Duration::from_nanos(interval), burst), TokenRate::per_second(per_second)] {
                let mut bucket = TokenBucket::paid_by(paid);
                let _ = (bucket.left(&rate, now), bucket.until_full(now), bucket.debt(&rate, now));
                let _ = bucket.try_take(&rate, rate.cost(tokens), now);
                bucket.give_back(rate.cost(tokens));
            }
        }
    }

    #[test]
    fn a_long_rest_fills_the_bucket_and_no_more() {
        let rate = TokenRate::of("10/s".parse().unwrap(), 3);
        let mut bucket = TokenBucket::default();
        let mut take =
            |now| (0..100).take_while(|_| bucket.try_take(&rate, rate.cost(1), now).is_ok()).count();
        assert_eq!([take(0), take(100_000_000), take(1 << 60)], [3, 1, 3]);
    }
}
