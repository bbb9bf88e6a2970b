//! Tokens for WebSocket messages, taken from the store in batches, so that no message waits for the network.
//!
//! A lease holds tokens that the store has given in advance, for a second. Without any, a message passes on credit while
//! the bucket, as the store last described it, has a token; credit is reported to the store at once and is always charged
//! there.
//!
//! # Error
//! For `g` gateways and a bucket of `b` tokens:
//! - In any time `t` at most `rate × t + b + g × c` messages pass, where `c` is the credit of one gateway: the messages of a
//!   client within one round trip to the store, and never more than `b`. Later messages pay for them.
//! - At most `g × max(1, b / 2g)` leased tokens lie idle, for a second at most: a client may be refused by so many tokens
//!   too early.

use moongate_sdk::{TokenBucket, TokenOutcome, TokenRate};

const MILLISECOND: u64 = 1_000_000;
/// Leased tokens expire after a second.
const VALID: u64 = 1000 * MILLISECOND;
/// A lease holds the messages of this time,
const WINDOW: u64 = 100 * MILLISECOND;
/// if there are at least so many. Fewer are reported one by one: their leases would expire unused, and cost twice.
const FEWEST: u32 = 3;

/// The tokens of one key. Moments are nanoseconds since an origin of the caller.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MessageLease {
    tokens: u32,
    valid_until: u64,
    /// Messages that passed without a leased token and are not reported yet.
    credit: u32,
    /// The bucket as the store described it last, less the credit since.
    bucket: TokenBucket,
    is_asked: bool,
    window_start: u64,
    in_window: u32,
    /// The messages of the window before.
    recent: u32,
    last_used: u64,
}

/// A request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseRequest {
    /// Credit to report.
    pub(super) owed: u32,
    /// The most tokens to lease.
    pub(super) wanted: u32,
}

/// The limit of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseLimit {
    pub(super) rate: TokenRate,
    pub(super) burst: u32,
    pub(super) gateways: u32,
}

impl MessageLease {
    /// Takes a token, and returns the request to send, if any.
    pub(super) fn take(&mut self, limit: &LeaseLimit, now: u64) -> (TokenOutcome, Option<LeaseRequest>) {
        self.note_uses(1, now);
        if now >= self.valid_until {
            self.tokens = 0;
        }
        let outcome = if self.tokens > 0 {
            self.tokens -= 1;
            TokenOutcome::Taken { left: self.tokens.into(), full: self.bucket.until_full(now) }
        } else if let Err(wait) = self.bucket.try_take(&limit.rate, limit.rate.cost(1), now) {
            TokenOutcome::Refused { wait, full: self.bucket.until_full(now) }
        } else {
            self.credit += 1;
            TokenOutcome::Taken {
                left: self.bucket.left(&limit.rate, now),
                full: self.bucket.until_full(now),
            }
        };
        (outcome, self.request(limit))
    }

    /// Takes that many tokens whether they are there or not: received messages cannot be sent back. Returns whether they
    /// were there, and the request to send, if any.
    pub(super) fn charge(
        &mut self,
        count: u32,
        limit: &LeaseLimit,
        now: u64,
    ) -> (bool, Option<LeaseRequest>) {
        self.note_uses(count, now);
        if now >= self.valid_until {
            self.tokens = 0;
        }
        let leased = count.min(self.tokens);
        self.tokens -= leased;
        let credit = count - leased;
        self.credit = self.credit.saturating_add(credit);
        self.bucket = self.bucket.charged(limit.rate.cost(credit.into()), now);
        let is_within = credit == 0 || self.bucket.debt(&limit.rate, now) == 0;
        (is_within, self.request(limit))
    }

    /// As [`MessageLease::charge`], of the share of this gateway while the store is unavailable.
    pub(super) fn charge_share(&mut self, count: u32, share: &TokenRate, now: u64) -> bool {
        self.last_used = now;
        self.tokens = 0;
        self.bucket = self.bucket.charged(share.cost(count.into()), now);
        self.bucket.debt(share, now) == 0
    }

    /// The tokens that are there, leased ones included, and the time until `enough` are, in nanoseconds of the rate.
    pub(super) fn room(&self, rate: &TokenRate, enough: u64, now: u64) -> (u64, u64) {
        let leased = if now < self.valid_until { u64::from(self.tokens) } else { 0 };
        if leased > 0 {
            return (leased.saturating_add(self.bucket.left(rate, now)), 0);
        }
        match self.bucket.left(rate, now) {
            0 => (0, self.bucket.charged(enough, now).debt(rate, now)),
            left => (left, 0),
        }
    }

    /// Continues with the response to a request.
    pub(super) fn granted(&mut self, given: u32, full: u64, limit: &LeaseLimit, now: u64) {
        self.is_asked = false;
        self.tokens = self.tokens.saturating_add(given);
        if given > 0 {
            self.valid_until = now.saturating_add(VALID);
        }
        // The credit since the request is not in the store's description.
        let credit = limit.rate.cost(self.credit.into());
        self.bucket = TokenBucket::paid_by(now.saturating_add(full)).charged(credit, now);
    }

    /// The request got no response. Its credit is reported again.
    pub(super) fn failed(&mut self, request: LeaseRequest, limit: &LeaseLimit) {
        self.is_asked = false;
        self.credit = self.credit.saturating_add(request.owed).min(limit.burst);
    }

    /// The request for credit that passed while another request was under way.
    pub(super) fn request(&mut self, limit: &LeaseLimit) -> Option<LeaseRequest> {
        let most = (limit.burst / limit.gateways.max(1) / 2).max(1);
        let size = if self.recent < FEWEST { 0 } else { self.recent.min(most) };
        if self.is_asked || (self.credit == 0 && self.tokens >= size.div_ceil(2)) {
            return None;
        }
        self.is_asked = true;
        let owed = std::mem::take(&mut self.credit);
        Some(LeaseRequest { owed, wanted: size.saturating_sub(self.tokens) })
    }

    /// How long until its bucket is full: the loss if it is forgotten.
    pub(super) fn load(&self, now: u64) -> u64 {
        self.bucket.until_full(now)
    }

    /// Whether it can be forgotten: the bucket is full, and nothing is under way.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        !self.is_asked
            && self.credit == 0
            && now >= self.valid_until
            && self.bucket.until_full(now) == 0
            && now.saturating_sub(self.last_used) > VALID
    }

    fn note_uses(&mut self, count: u32, now: u64) {
        self.last_used = now;
        let passed = now.saturating_sub(self.window_start);
        if passed >= WINDOW {
            self.recent = if passed < 2 * WINDOW { self.in_window } else { 0 };
            self.in_window = 0;
            self.window_start = now;
        }
        self.in_window = self.in_window.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// When a response arrives, the tokens given, and the time until the bucket is full.
    type Response = (u64, u32, u64);

    /// The store, and gateways whose requests and responses take a round trip.
    struct Fleet {
        limit: LeaseLimit,
        round_trip: u64,
        store: TokenBucket,
        gateways: Vec<(MessageLease, Option<Response>)>,
        passed: Vec<u64>,
    }

    impl Fleet {
        fn new(gateways: u32, per_second: u64, burst: u32, round_trip: u64) -> Self {
            let rate = TokenRate::every(std::time::Duration::from_nanos(SECOND / per_second), burst);
            let all = (0..gateways).map(|_| (MessageLease::default(), None)).collect();
            Self {
                limit: LeaseLimit { rate, burst, gateways },
                round_trip,
                store: TokenBucket::default(),
                gateways: all,
                passed: Vec::new(),
            }
        }

        /// What the script of the store does.
        fn ask(&mut self, gateway: usize, request: LeaseRequest, now: u64) {
            let rate = self.limit.rate;
            self.store = self.store.charged(rate.cost(request.owed.into()), now);
            let available = if self.store.debt(&rate, now) == 0 { self.store.left(&rate, now) } else { 0 };
            let given = available.min(request.wanted.into());
            self.store = self.store.charged(rate.cost(given), now);
            self.gateways[gateway].1 =
                Some((now + self.round_trip, u32::try_from(given).unwrap(), self.store.until_full(now)));
        }

        fn message(&mut self, gateway: usize, now: u64) -> bool {
            for at in 0..self.gateways.len() {
                if let Some((when, given, full)) = self.gateways[at].1.filter(|(when, ..)| *when <= now) {
                    let limit = self.limit;
                    let (lease, under_way) = &mut self.gateways[at];
                    *under_way = None;
                    lease.granted(given, full.saturating_sub(now - when), &limit, now);
                    if let Some(request) = lease.request(&limit) {
                        self.ask(at, request, now);
                    }
                }
            }
            let limit = self.limit;
            let (outcome, request) = self.gateways[gateway].0.take(&limit, now);
            if let Some(request) = request {
                self.ask(gateway, request, now);
            }
            let passes = matches!(outcome, TokenOutcome::Taken { .. });
            if passes {
                self.passed.push(now);
            }
            passes
        }
    }

    proptest! {
        #[test]
        fn the_error_is_bounded(
            gateways in 1..5_u32,
            per_second in 10..2000_u64,
            burst in 1..200_u32,
            round_trip in 0..30 * MILLISECOND,
            steps in proptest::collection::vec((0..5_usize, 0..20 * MILLISECOND), 1..600),
        ) {
            let mut fleet = Fleet::new(gateways, per_second, burst, round_trip);
            let (mut now, mut offered) = (0, Vec::new());
            for (gateway, passes) in steps {
                now += passes;
                let gateway = gateway % gateways as usize;
                fleet.message(gateway, now);
                offered.push((now, gateway));
            }
            // The most messages that one gateway had within two round trips: those before a request was answered, and
            // those reported by the next one.
            let mut credit = 0;
            for (at, (begin, gateway)) in offered.iter().enumerate() {
                let within = offered[at..].iter().take_while(|(time, _)| time - begin <= 2 * round_trip);
                credit = within.filter(|(_, other)| other == gateway).count().max(credit);
            }
            let credit = (credit as u64).min(burst.into());
            for (at, begin) in fleet.passed.iter().enumerate() {
                for (count, end) in fleet.passed[at..].iter().enumerate() {
                    let most = (end - begin) * per_second / SECOND + 1 + u64::from(burst) + u64::from(gateways) * credit;
                    prop_assert!(count as u64 <= most, "{count} of {most}");
                }
            }
        }
    }

    #[test]
    fn a_slow_client_is_never_refused() {
        let mut fleet = Fleet::new(2, 1, 1, MILLISECOND);
        assert!((0..100).all(|n| fleet.message(n % 2, n as u64 * SECOND)));
    }

    #[test]
    fn a_burst_passes_before_the_store_has_responded() {
        let mut fleet = Fleet::new(3, 20, 20, MILLISECOND);
        assert_eq!((0..40).filter(|_| fleet.message(0, 0)).count(), 20);
    }

    #[test]
    fn two_gateways_share_a_rate() {
        let mut fleet = Fleet::new(2, 100, 100, MILLISECOND);
        // Twice the rate at each, for ten seconds.
        for n in 0..4000_u64 {
            fleet.message((n % 2) as usize, n * 5 * MILLISECOND / 2);
        }
        let passed = fleet.passed.len();
        assert!((1040..=1110).contains(&passed), "{passed} of 1100");
    }

    #[test]
    fn a_fast_client_asks_in_batches() {
        let limit = LeaseLimit {
            rate: TokenRate::every(std::time::Duration::from_micros(100), 10_000),
            burst: 10_000,
            gateways: 2,
        };
        let (mut lease, mut requests) = (MessageLease::default(), 0);
        for n in 0..10_000_u64 {
            let now = n * 200_000;
            let (outcome, request) = lease.take(&limit, now);
            assert!(matches!(outcome, TokenOutcome::Taken { .. }));
            if let Some(request) = request {
                requests += 1;
                lease.granted(request.wanted, 0, &limit, now);
            }
        }
        // The first window has no lease: its messages are on credit.
        assert!(requests < 560, "{requests}");
    }
}
