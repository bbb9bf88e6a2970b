//! Rate limits of a client's messages and bytes, by the generic cell rate algorithm. The state of a bucket is
//! one time: when all usage so far is paid for.

use crate::config::{self, Exceed};
use std::time::Duration;
use tokio::time::Instant;

/// The burst: one second's worth.
const BURST: Duration = Duration::from_secs(1);
/// A paused client continues when this part of a second's worth is free again: a few wake-ups per second
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
    pub exceed: Exceed,
}

impl Rates {
    pub(super) fn new(written: &config::WebSocket) -> Option<Self> {
        let messages = written.messages_per_second.map(|rate| u64::from(rate.get()));
        let bytes = written.bytes_per_second.map(|rate| rate.0);
        (messages.is_some() || bytes.is_some()).then_some(Self { messages, bytes, exceed: written.on_exceed })
    }
}

/// The usage of one client.
#[derive(Debug)]
pub(super) struct Throttle {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    pub(super) exceed: Exceed,
    /// The client is not read before this time.
    until: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(rates: &Rates, now: Instant) -> Self {
        let bucket = |rate: u64| Bucket { rate, paid: now };
        Self {
            messages: rates.messages.map(bucket),
            bytes: rates.bytes.map(bucket),
            exceed: rates.exceed,
            until: None,
        }
    }

    /// When reading continues, while the client is paused.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The maximum number of bytes to read at once; `None` while the client is paused.
    pub(super) fn window(&mut self, now: Instant) -> Option<usize> {
        if self.exceed == Exceed::Close {
            return Some(usize::MAX);
        }
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        let buckets = [self.messages.as_ref(), self.bytes.as_ref()];
        let late = buckets.iter().flatten().filter(|bucket| bucket.left(now) == 0);
        self.until = late.map(|bucket| bucket.paid + QUANTUM - BURST).max().filter(|until| *until > now);
        if self.until.is_some() {
            return None;
        }
        // This number of bytes cannot contain more messages than are left.
        let messages =
            self.messages.as_ref().map_or(u64::MAX, |bucket| bucket.left(now).saturating_mul(SHORTEST));
        let bytes = self.bytes.as_ref().map_or(u64::MAX, |bucket| bucket.left(now));
        Some(usize::try_from(messages.min(bytes)).unwrap_or(usize::MAX).max(LEAST))
    }

    /// Records usage; returns whether it is within the rates.
    pub(super) fn take(&mut self, messages: u32, bytes: u64, now: Instant) -> bool {
        let messages = self.messages.as_mut().is_none_or(|bucket| bucket.take(u64::from(messages), now));
        let bytes = self.bytes.as_mut().is_none_or(|bucket| bucket.take(bytes, now));
        messages && bytes
    }
}

#[derive(Debug)]
struct Bucket {
    /// Per second.
    rate: u64,
    /// When all usage is paid for.
    paid: Instant,
}

impl Bucket {
    fn take(&mut self, count: u64, now: Instant) -> bool {
        let cost = Duration::from_nanos(count.saturating_mul(1_000_000_000) / self.rate.max(1));
        self.paid = self.paid.max(now) + cost;
        self.paid <= now + BURST
    }

    /// The amount that is available now.
    fn left(&self, now: Instant) -> u64 {
        let free = (now + BURST).saturating_duration_since(self.paid).min(BURST);
        u64::try_from(free.as_nanos() * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn throttle(exceed: Exceed, now: Instant) -> Throttle {
        Throttle::new(&Rates { messages: Some(100), bytes: None, exceed }, now)
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
            &Rates { messages: Some(10_000), bytes: Some(1 << 20), exceed: Exceed::Pause },
            now,
        );
        assert_eq!(throttle.window(now), Some(60_000));
        throttle.take(5_000, 1 << 20, now);
        assert_eq!(throttle.window(now), None);
    }
}
