//! Rate limit on the messages and bytes per second of one WebSocket, or on the messages of a client over a fleet. Received
//! data always takes tokens, since it cannot be sent back: a client above its rate has a negative balance.

use super::shared_tokens::SharedTokens;
use crate::config::{self, Exceed};
use moongate_sdk::{TokenBucket, TokenRate, nanoseconds};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Reading from a paused client continues after this much of a second is free again: a few wakeups per second
/// instead of one per message.
const QUANTUM: Duration = Duration::from_millis(50);
/// The smallest frame of a client: two bytes and a masking key.
const SHORTEST: u64 = 6;
/// The minimum read size; usage above the limit is paid for later.
const LEAST: usize = 1 << 10;

/// The rate limits of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    messages: Option<u64>,
    bytes: Option<u64>,
    /// The action when a client exceeds them.
    pub on_exceed: Exceed,
}

impl Rates {
    pub(crate) fn new(written: &config::WebSocket) -> Option<Self> {
        let messages = written.messages_per_second.as_ref();
        let bytes = written.bytes_per_second.map(|rate| rate.0);
        (messages.is_some() || bytes.is_some()).then_some(Self {
            messages: messages.and_then(config::MessageRate::local).map(u64::from),
            bytes,
            on_exceed: written.on_exceed,
        })
    }

    /// The rate of bytes alone, for a client without messages; `None` if there is none.
    pub fn of_bytes(self) -> Option<Self> {
        self.bytes.map(|_| Self { messages: None, ..self })
    }
}

/// The tokens for the messages of one client, which a fleet shares.
#[derive(Clone, Debug)]
pub(crate) struct ClientTokens {
    pub(crate) tokens: Arc<SharedTokens>,
    /// The client.
    pub(crate) key: u128,
}

/// The usage of one client.
#[derive(Debug)]
pub(crate) struct Throttle {
    messages: Option<Bucket>,
    /// The messages of the client over a fleet, in place of `messages`.
    shared: Option<ClientTokens>,
    bytes: Option<Bucket>,
    /// The moments of the buckets count from here.
    start: Instant,
    pub(crate) on_exceed: Exceed,
    /// The client is not read before this time.
    until: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(rates: &Rates, shared: Option<ClientTokens>, now: Instant) -> Self {
        let bucket = |rate| Bucket { rate: TokenRate::per_second(rate), taken: TokenBucket::default() };
        Self {
            messages: rates.messages.map(bucket),
            shared,
            bytes: rates.bytes.map(bucket),
            start: now,
            on_exceed: rates.on_exceed,
            until: None,
        }
    }

    /// When reading continues, while the client is paused.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The maximum number of bytes to read at once; `None` while the client is paused.
    pub(crate) fn window(&mut self, now: Instant) -> Option<usize> {
        if self.on_exceed == Exceed::Close {
            return Some(usize::MAX);
        }
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        let at = self.moment(now);
        let buckets = [self.messages.as_ref(), self.bytes.as_ref()];
        let late = buckets.iter().flatten().filter(|bucket| bucket.left(at) == 0);
        let wait = late.map(|bucket| bucket.wait(at)).max().unwrap_or_default();
        let shared = self.shared.as_ref().map(|shared| shared.tokens.room(shared.key, QUANTUM));
        let wait = shared.map_or(wait, |(_, pause)| wait.max(pause));
        self.until = (wait > Duration::ZERO).then(|| now + wait);
        if self.until.is_some() {
            return None;
        }
        // This number of bytes cannot contain more messages than are left.
        let left = self.messages.as_ref().map_or(u64::MAX, |bucket| bucket.left(at));
        let left = shared.map_or(left, |(tokens, _)| left.min(tokens));
        let messages = left.saturating_mul(SHORTEST);
        let bytes = self.bytes.as_ref().map_or(u64::MAX, |bucket| bucket.left(at));
        Some(usize::try_from(messages.min(bytes)).unwrap_or(usize::MAX).max(LEAST))
    }

    /// Records usage; returns whether it is within the rates.
    pub(crate) fn take(&mut self, messages: u32, bytes: u64, now: Instant) -> bool {
        let at = self.moment(now);
        let shared = match &self.shared {
            Some(shared) if messages > 0 => shared.tokens.charge_leased(shared.key, messages),
            _ => true,
        };
        let messages = self.messages.as_mut().is_none_or(|bucket| bucket.take(u64::from(messages), at));
        let bytes = self.bytes.as_mut().is_none_or(|bucket| bucket.take(bytes, at));
        shared && messages && bytes
    }

    /// The key of the client in a limit that a fleet shares.
    pub(crate) fn client(&self) -> Option<u128> {
        self.shared.as_ref().map(|shared| shared.key)
    }

    /// What the client has taken and not paid for, in nanoseconds: messages and bytes.
    pub(crate) fn debts(&self, now: Instant) -> [u64; 2] {
        let at = self.moment(now);
        let of = |bucket: &Option<Bucket>| bucket.as_ref().map_or(0, |bucket| bucket.taken.until_full(at));
        [of(&self.messages), of(&self.bytes)]
    }

    /// Continues with these debts of another process.
    pub(crate) fn charge(&mut self, debts: [u64; 2]) {
        for (bucket, debt) in [&mut self.messages, &mut self.bytes].into_iter().zip(debts) {
            if let Some(bucket) = bucket {
                bucket.taken = bucket.taken.charged(debt, 0);
            }
        }
    }

    fn moment(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.start))
    }
}

/// Tokens of a second, which may come at once.
#[derive(Debug)]
struct Bucket {
    rate: TokenRate,
    taken: TokenBucket,
}

impl Bucket {
    /// Takes them. Whether they were there.
    fn take(&mut self, count: u64, now: u64) -> bool {
        self.taken = self.taken.charged(self.rate.cost(count), now);
        self.taken.debt(&self.rate, now) == 0
    }

    /// How many may come now.
    fn left(&self, now: u64) -> u64 {
        self.taken.left(&self.rate, now)
    }

    /// How long until [`QUANTUM`] of a second's worth is there.
    fn wait(&self, now: u64) -> Duration {
        let enough = self.taken.charged(nanoseconds(QUANTUM), now);
        Duration::from_nanos(enough.debt(&self.rate, now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn throttle(on_exceed: Exceed, now: Instant) -> Throttle {
        Throttle::new(&Rates { messages: Some(100), bytes: None, on_exceed }, None, now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_may_come_at_once_and_no_more() {
        let now = Instant::now();
        let mut throttle = throttle(Exceed::Close, now);
        assert!(throttle.take(100, 0, now));
        assert!(!throttle.take(1, 0, now));
        assert!(!throttle.take(1, 0, now + Duration::from_millis(10)));
        assert!(throttle.take(1, 0, now + Duration::from_millis(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_client_goes_on_when_its_debt_is_paid() {
        let now = Instant::now();
        let mut throttle = throttle(Exceed::Pause, now);
        assert!(throttle.window(now).is_some());
        throttle.take(200, 0, now);
        assert_eq!(throttle.window(now), None);
        // 200 taken, 100 allowed at once: one second of debt, and a quantum.
        assert_eq!(throttle.until(), Some(now + Duration::from_millis(1050)));
        assert_eq!(throttle.window(now + Duration::from_millis(1000)), None);
        assert!(throttle.window(now + Duration::from_millis(1050)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_holds_no_more_messages_than_are_left() {
        let now = Instant::now();
        let mut throttle = Throttle::new(
            &Rates { messages: Some(10_000), bytes: Some(1 << 20), on_exceed: Exceed::Pause },
            None,
            now,
        );
        assert_eq!(throttle.window(now), Some(60_000));
        throttle.take(5_000, 1 << 20, now);
        assert_eq!(throttle.window(now), None);
    }
}
