//! Opening handshakes at a steady rate: after a restart every client comes back at once, and what
//! opens a WebSocket (a session looked up, a room joined) is what a backend has least of then.
//!
//! The queue is one token bucket, shared as one number. A comer is told when its turn is and waits by itself, so there is no
//! list, no lock and nobody to wake; first come is first served. Time is handed in.

use moongate_config::Rate;
use moongate_sdk::{TokenBucket, TokenRate, nanoseconds};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait for a turn. No more than this time's worth of handshakes can be waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// This part of a rate's count may come at once, and at least one: fifty of `500/s`, one of `10/h`.
const BURST_PART: u32 = 10;

/// Over so many seconds the refused are spread when they are told when to come again.
const SPREAD: u64 = 5;

/// Gives out turns at a rate. Shared by every worker, and kept over reloads that leave the rate as it is.
#[derive(Debug)]
pub struct HandshakeLimiter {
    rate: Rate,
    /// Turns; a full bucket holds those that come at once.
    turns: TokenRate,
    /// When this pacer was first asked: the moments below count from here.
    start: OnceLock<Instant>,
    /// The [`TokenBucket`] of turns.
    paid: AtomicU64,
}

/// Nobody more may wait. Holds how long it is until somebody may again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull(pub Duration);

impl QueueFull {
    /// When to come again, in whole seconds: not before there is room, and each at another time, so
    /// that those who were refused together do not come back together.
    #[must_use]
    pub fn retry_after(self) -> u32 {
        let earliest = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        u32::try_from(earliest.max(1) + fastrand::u64(..SPREAD)).unwrap_or(u32::MAX)
    }
}

impl HandshakeLimiter {
    /// One that has let nobody in yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let turns = TokenRate::of(rate, (rate.count().get() / BURST_PART).max(1));
        Self { rate, turns, start: OnceLock::new(), paid: AtomicU64::new(0) }
    }

    /// The pacer for a rate: `prior` when its rate is the same, so that a reload lets nobody in early.
    #[must_use]
    pub fn carry(rate: Option<Rate>, prior: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let rate = rate?;
        let kept = prior.filter(|prior| prior.rate == rate).cloned();
        Some(kept.unwrap_or_else(|| Arc::new(Self::new(rate))))
    }

    /// Takes the next turn: how long to wait for it, nothing or up to a second.
    ///
    /// # Errors
    /// [`Crowded`] when it would be longer; then no turn is taken.
    pub fn take(&self, now: Instant) -> Result<Duration, QueueFull> {
        self.take_within(now, LONGEST_WAIT)
    }

    /// The same for whoever waits as long as `longest`: a client that is connected, and whose backend is lost.
    ///
    /// # Errors
    /// As there.
    pub fn take_within(&self, now: Instant, longest: Duration) -> Result<Duration, QueueFull> {
        let now = nanoseconds(now.saturating_duration_since(*self.start.get_or_init(|| now)));
        let mut paid = self.paid.load(Relaxed);
        loop {
            let next = TokenBucket::paid_by(paid).charged(self.turns.cost(1), now);
            let wait = Duration::from_nanos(next.debt(&self.turns, now));
            if wait > longest {
                return Err(QueueFull(wait - longest));
            }
            // Turns are all that is agreed on here; nothing else is published with them.
            match self.paid.compare_exchange_weak(paid, next.paid_at(), Relaxed, Relaxed) {
                Ok(_) => return Ok(wait),
                Err(moved) => paid = moved,
            }
        }
    }

    /// Gives a turn back that was taken and will not be used.
    pub fn give_back(&self) {
        // Below zero is nowhere to go: a turn was added before, and nobody takes more than was added.
        self.paid.fetch_sub(self.turns.cost(1), Relaxed);
    }
}

#[cfg(test)]
mod tests;
