//! Rate limit of WebSocket handshakes. After a restart all clients reconnect at once, and opening a WebSocket
//! (session lookups, subscriptions) is expensive for a backend.
//!
//! The queue of a process is one token bucket in an atomic. Each handshake gets its start time and sleeps until then, so there is no
//! list, no lock and no task to wake; the order is first in, first out. The queue of a fleet is a bucket in a store, which
//! responds with the start time.

use super::shared_tokens::SharedTokens;
use super::store::OnFailure;
use super::store::Store;
use moongate_config::Rate;
use moongate_sdk::{TokenBucket, TokenRate, nanoseconds, share_of};
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
    /// Turns; a full bucket holds those that come at once.
    turns: TokenRate,
    /// The time of the first use: the moments below count from here.
    start: OnceLock<Instant>,
    /// The [`TokenBucket`] of turns.
    paid: AtomicU64,
    shared: Option<Arc<SharedTokens>>,
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
        let turns = TokenRate::of(rate, Self::burst(rate));
        Self { rate, turns, start: OnceLock::new(), paid: AtomicU64::new(0), shared: None }
    }

    /// Creates an unused limiter that a fleet shares.
    #[must_use]
    pub(crate) fn shared(rate: Rate, shared: Arc<SharedTokens>) -> Self {
        Self { shared: Some(shared), ..Self::new(rate) }
    }

    /// So many handshakes may start at once.
    pub(crate) fn burst(rate: Rate) -> u32 {
        (rate.count().get() / BURST_PART).max(1)
    }

    /// Whether it has this rate, and this store or none.
    pub(super) fn is_of(&self, rate: Rate, store: Option<&Arc<Store>>) -> bool {
        let own = self.shared.as_ref().map(|shared| Arc::as_ptr(shared.store()));
        self.rate == rate && own == store.map(Arc::as_ptr)
    }

    /// Reserves the next handshake and returns how long to wait for it: at most `longest`, or the maximum without it. A
    /// shared limiter also waits for the store's response.
    ///
    /// # Errors
    /// [`QueueFull`] when the wait would be longer; nothing is reserved.
    pub async fn reserve(&self, longest: Option<Duration>) -> Result<Duration, QueueFull> {
        let longest = longest.unwrap_or(LONGEST_WAIT);
        let Some(shared) = &self.shared else { return self.take_within(Instant::now(), longest) };
        let share = share_of(self.rate, Self::burst(self.rate), shared.store().gateways());
        match shared.reserve(longest).await {
            Some(Ok(wait)) => {
                // As for `moongate_sdk::Limiter`: the share is charged all the time.
                self.owe(
                    share.cost(1),
                    share.depth().saturating_add(nanoseconds(LONGEST_WAIT)),
                    Instant::now(),
                );
                Ok(wait)
            }
            Some(Err(wait)) => Err(QueueFull(wait.saturating_sub(longest))),
            None => match shared.store().settings().on_failure {
                OnFailure::Local => self.take_turn(&share, Instant::now(), longest),
                OnFailure::Open => Ok(Duration::ZERO),
                OnFailure::Closed => Err(QueueFull(LONGEST_WAIT)),
            },
        }
    }

    /// Reserves the next handshake and returns how long to wait for it: between zero and one second.
    ///
    /// # Errors
    /// [`QueueFull`] when the wait would be longer; nothing is reserved.
    #[cfg(test)]
    pub fn take(&self, now: Instant) -> Result<Duration, QueueFull> {
        self.take_within(now, LONGEST_WAIT)
    }

    /// As [`HandshakeLimiter::reserve`], with a maximum wait of `longest`: for a connected client whose backend is
    /// lost.
    ///
    /// # Errors
    /// As for [`HandshakeLimiter::reserve`].
    pub fn take_within(&self, now: Instant, longest: Duration) -> Result<Duration, QueueFull> {
        self.take_turn(&self.turns, now, longest)
    }

    fn take_turn(&self, turns: &TokenRate, now: Instant, longest: Duration) -> Result<Duration, QueueFull> {
        let now = self.moment(now);
        let mut paid = self.paid.load(Relaxed);
        loop {
            let next = TokenBucket::paid_by(paid).charged(turns.cost(1), now);
            let wait = Duration::from_nanos(next.debt(turns, now));
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

    /// The time until every handshake so far is paid for, for another process.
    pub fn owed(&self, now: Instant) -> Duration {
        let paid = TokenBucket::paid_by(self.paid.load(Relaxed));
        Duration::from_nanos(paid.until_full(self.moment(now)))
    }

    /// Continues with what another process owed, up to a queue that is full: its rate may have been another one.
    pub fn charge(&self, owed: Duration, now: Instant) {
        let most = self.turns.depth().saturating_add(nanoseconds(LONGEST_WAIT));
        self.owe(nanoseconds(owed).min(most), most, now);
    }

    /// Takes turns of this cost, available or not. It never owes more than `most`.
    fn owe(&self, cost: u64, most: u64, now: Instant) {
        let now = self.moment(now);
        let charge = |paid| {
            let paid = TokenBucket::paid_by(paid).charged(cost, now).paid_at();
            Some(paid.min(now.saturating_add(most)))
        };
        // Always `Some`.
        let _ = self.paid.fetch_update(Relaxed, Relaxed, charge);
    }

    /// Nanoseconds since the first use.
    fn moment(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(*self.start.get_or_init(|| now)))
    }

    /// Returns an unused reservation.
    pub fn give_back(&self) {
        if let Some(shared) = &self.shared {
            shared.give_back();
            return;
        }
        // Never below zero: a turn was added before, and no caller takes more than was added.
        self.paid.fetch_sub(self.turns.cost(1), Relaxed);
    }
}

#[cfg(test)]
mod tests;
