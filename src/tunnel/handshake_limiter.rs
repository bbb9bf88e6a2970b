//! Rate limit of WebSocket handshakes. After a restart all clients reconnect at once, and opening a WebSocket
//! (session lookups, subscriptions) is expensive for a backend.
//!
//! The queue is one number: the time at which all accepted handshakes are paid for (the generic cell rate
//! algorithm). A caller gets its waiting time and sleeps, so there is no list, no lock and no wake-up. Order
//! is first come, first served. The caller passes the time.

use moongate_config::Rate;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum wait. No more handshakes can wait than the rate allows in this time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// This fraction of a rate's count may start at once, and at least one: fifty of `500/s`, one of `10/h`.
const BURST_PART: u32 = 10;

/// The `Retry-After` values of rejected handshakes are spread over this many seconds.
const SPREAD: u64 = 5;

/// A handshake rate limit, shared by all workers and kept over reloads that do not change the rate.
#[derive(Debug)]
pub struct HandshakeLimiter {
    rate: Rate,
    /// Nanoseconds per handshake.
    interval: u64,
    /// The burst in nanoseconds.
    burst: u64,
    /// The time of the first use, from which `paid` counts.
    start: OnceLock<Instant>,
    /// When all accepted handshakes are paid for, in nanoseconds.
    paid: AtomicU64,
}

/// The queue is full. Contains the time until there is capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull(pub Duration);

impl QueueFull {
    /// The `Retry-After` in whole seconds: after there is capacity, and randomised so that rejected clients
    /// do not return together.
    #[must_use]
    pub fn retry_after(self) -> u32 {
        let earliest = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        u32::try_from(earliest.max(1) + fastrand::u64(..SPREAD)).unwrap_or(u32::MAX)
    }
}

impl HandshakeLimiter {
    /// Creates an unused limiter.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let interval = nanos(rate.interval());
        let burst = interval * u64::from((rate.count().get() / BURST_PART).max(1));
        Self { rate, interval, burst, start: OnceLock::new(), paid: AtomicU64::new(0) }
    }

    /// The limiter for a rate: `prior` if its rate is the same, so that a reload does not reset the limit.
    #[must_use]
    pub fn carry(rate: Option<Rate>, prior: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let rate = rate?;
        let kept = prior.filter(|prior| prior.rate == rate).cloned();
        Some(kept.unwrap_or_else(|| Arc::new(Self::new(rate))))
    }

    /// Reserves the next handshake and returns how long to wait for it: between zero and one second.
    ///
    /// # Errors
    /// [`QueueFull`] when the wait would be longer; nothing is reserved.
    pub fn take(&self, now: Instant) -> Result<Duration, QueueFull> {
        self.take_within(now, LONGEST_WAIT)
    }

    /// As [`take`](Self::take), with a maximum wait of `longest`: for a connected client whose backend is
    /// lost.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn take_within(&self, now: Instant, longest: Duration) -> Result<Duration, QueueFull> {
        let now = nanos(now.saturating_duration_since(*self.start.get_or_init(|| now)));
        let free = now + self.burst;
        let mut paid = self.paid.load(Relaxed);
        loop {
            let next = paid.max(now) + self.interval;
            let wait = Duration::from_nanos(next.saturating_sub(free));
            if wait > longest {
                return Err(QueueFull(wait - longest));
            }
            // Relaxed: no other data is published with the number.
            match self.paid.compare_exchange_weak(paid, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(wait),
                Err(moved) => paid = moved,
            }
        }
    }

    /// Returns an unused reservation.
    pub fn give_back(&self) {
        // Cannot go below zero: the reservation was added before.
        self.paid.fetch_sub(self.interval, Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
