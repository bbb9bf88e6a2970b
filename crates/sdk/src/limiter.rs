//! Rate limiter by key: local to the process, or shared by the gateways of a fleet.
//!
//! # Scope
//! Every limit of the gateway has one bucket for each (owner, entry, client key):
//! - the owner is the route, the listener, or the whole configuration for a plugin of every route;
//! - the entry is the setting or the plugin with its name, such as `handshake_rate` or `rate_limit`;
//! - the client key is the value of `key`, or the client's address prefix where no key is given. A limit on all clients,
//!   such as `handshake_rate`, has one key.
//!
//! The scope is the same for both forms. Gateways that share a store share a bucket if owner, entry and key are equal.

mod buckets;

use crate::{HashedKey, TokenRate, fleet_hash, keyed_hash, nanoseconds};
use buckets::Buckets;
use moongate_config::{Problem, Rate};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The outcome of a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// A token was taken.
    Taken {
        /// Remaining tokens.
        left: u64,
        /// Nanoseconds until the bucket is full.
        full: u64,
    },
    /// No token was available.
    Refused {
        /// Nanoseconds until the next token.
        wait: u64,
        /// Nanoseconds until the bucket is full.
        full: u64,
    },
}

/// The answer of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedOutcome {
    /// The store decided, or the setting for its failure did.
    Decided(TokenOutcome),
    /// The store is unavailable: this gateway applies its share of the limit.
    Local,
}

/// The exact answer of a store, after a wait of at most its deadline.
pub type SharedFuture<'a> = Pin<Box<dyn Future<Output = SharedOutcome> + Send + 'a>>;

/// A limit in a store, shared by all gateways that use it.
pub trait SharedLimiter: Send + Sync {
    /// Takes a token of `key` exactly.
    fn take(&self, key: u128) -> SharedFuture<'_>;

    /// Takes a token of `key` from those that this gateway has leased, without waiting.
    fn take_leased(&self, key: u128) -> SharedOutcome;

    /// The number of gateways that the store has seen lately, this one included; at least 1.
    fn gateways(&self) -> u32;
}

/// A limit for [`LimitStores::limiter`].
#[derive(Clone, Copy, Debug)]
pub struct SharedLimit<'a> {
    /// Its name within the entry, such as `requests`.
    pub name: &'a str,
    /// The rate over all gateways.
    pub rate: Rate,
    /// The tokens of a full bucket.
    pub burst: u32,
    /// The most keys whose leased tokens are kept; the least-loaded of a sample is forgotten beyond it.
    pub max_keys: usize,
}

/// The stores of the configuration, as one plugin sees them: its limits have the scope of its entry.
pub trait LimitStores {
    /// The limit in the store of this name.
    ///
    /// # Errors
    /// No store has this name, or the rate is too high for one. The caller adds the place.
    fn limiter(&self, store: &str, limit: SharedLimit<'_>) -> Result<Arc<dyn SharedLimiter>, Problem>;
}

/// A rate limit by key.
pub struct Limiter {
    rate: Rate,
    burst: u32,
    most: usize,
    tokens: TokenRate,
    begun: Instant,
    /// The counts of this process; with a store, its share of the limit while the store is unavailable.
    buckets: Buckets,
    shared: Option<Arc<dyn SharedLimiter>>,
}

impl Limiter {
    /// A local limiter: buckets of `burst` tokens, at most `most` of them.
    #[must_use]
    pub fn new(rate: Rate, burst: u32, most: usize) -> Self {
        let tokens = TokenRate::of(rate, burst);
        Self { rate, burst, most, tokens, begun: Instant::now(), buckets: Buckets::new(most), shared: None }
    }

    /// Shares the limit with the other gateways of the store.
    ///
    /// # Errors
    /// As for [`LimitStores::limiter`].
    pub fn share(&mut self, stores: &dyn LimitStores, store: &str, name: &str) -> Result<(), Problem> {
        let limit = SharedLimit { name, rate: self.rate, burst: self.burst, max_keys: self.most };
        self.shared = Some(stores.limiter(store, limit)?);
        Ok(())
    }

    /// Whether a store decides, so that [`Limiter::take`] may wait.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The tokens of a full bucket.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Nanoseconds in which an empty bucket refills.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.tokens.depth()
    }

    /// The key of a bucket: equal in all gateways if the limit is shared, and secret to this process if not.
    #[must_use]
    pub fn key(&self, key: HashedKey<'_>) -> u128 {
        if self.is_shared() { fleet_hash(key) } else { keyed_hash(key).into() }
    }

    /// Takes a token without waiting: of the local bucket, or of those leased from the store.
    pub fn try_take(&self, key: u128) -> TokenOutcome {
        let Some(shared) = &self.shared else { return self.take_local(key, &self.tokens) };
        self.settle(&**shared, key, shared.take_leased(key))
    }

    /// Takes a token exactly. Only a shared limiter waits.
    pub async fn take(&self, key: u128) -> TokenOutcome {
        let Some(shared) = &self.shared else { return self.take_local(key, &self.tokens) };
        self.settle(&**shared, key, shared.take(key).await)
    }

    /// The keys with the nanoseconds until their local buckets are full, without those that are.
    #[must_use]
    pub fn debts(&self) -> Vec<(u64, u64)> {
        self.buckets.debts(self.now())
    }

    /// Continues with a local bucket of another process, whose rate may have been another one.
    pub fn charge(&self, key: u64, debt: u64) {
        self.buckets.charge(key, debt, self.depth(), self.now());
    }

    /// Applies this gateway's share if the store is unavailable. The share is charged all the time: otherwise each
    /// gateway would begin with a full bucket when the store fails.
    fn settle(&self, shared: &dyn SharedLimiter, key: u128, outcome: SharedOutcome) -> TokenOutcome {
        let share = share_of(self.rate, self.burst, shared.gateways());
        match outcome {
            SharedOutcome::Local => self.take_local(key, &share),
            SharedOutcome::Decided(outcome) => {
                if let TokenOutcome::Taken { .. } = outcome {
                    self.buckets.charge(local_key(key), share.cost(1), share.depth(), self.now());
                }
                outcome
            }
        }
    }

    fn take_local(&self, key: u128, rate: &TokenRate) -> TokenOutcome {
        self.buckets.take(local_key(key), rate, self.now())
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }
}

/// The share of one of so many gateways in a rate: the rate divided by their number, and the burst divided and rounded up.
#[must_use]
pub fn share_of(rate: Rate, burst: u32, gateways: u32) -> TokenRate {
    let gateways = gateways.max(1);
    let interval: Duration = rate.interval().saturating_mul(gateways);
    TokenRate::every(interval, burst.div_ceil(gateways))
}

/// Both halves: a key of a store has 128 bits, that of this process 64.
fn local_key(key: u128) -> u64 {
    (key >> 64) as u64 ^ key as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::testing::wait;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    struct Store {
        is_up: AtomicBool,
    }

    impl SharedLimiter for Store {
        fn take(&self, key: u128) -> SharedFuture<'_> {
            Box::pin(std::future::ready(self.take_leased(key)))
        }

        fn take_leased(&self, _: u128) -> SharedOutcome {
            if self.is_up.load(Relaxed) {
                SharedOutcome::Decided(TokenOutcome::Taken { left: 7, full: 1 })
            } else {
                SharedOutcome::Local
            }
        }

        fn gateways(&self) -> u32 {
            3
        }
    }

    struct Stores(Arc<Store>);

    impl LimitStores for Stores {
        fn limiter(&self, store: &str, limit: SharedLimit<'_>) -> Result<Arc<dyn SharedLimiter>, Problem> {
            assert_eq!((store, limit.name, limit.burst), ("fleet", "requests", 9));
            Ok(self.0.clone())
        }
    }

    fn taken(outcome: TokenOutcome) -> bool {
        matches!(outcome, TokenOutcome::Taken { .. })
    }

    fn shared() -> (Arc<Store>, Limiter) {
        let store = Arc::new(Store { is_up: true.into() });
        let mut limiter = Limiter::new("9/h".parse().unwrap(), 9, 100);
        limiter.share(&Stores(store.clone()), "fleet", "requests").unwrap();
        (store, limiter)
    }

    #[test]
    fn without_the_store_each_gateway_has_its_share() {
        let (store, limiter) = shared();
        store.is_up.store(false, Relaxed);
        assert_eq!((0..20).filter(|_| taken(wait(limiter.take(1)))).count(), 3);
        assert!(taken(limiter.try_take(2)), "another key");
    }

    #[test]
    fn tokens_from_the_store_are_charged_to_the_share() {
        let (store, limiter) = shared();
        assert!((0..20).all(|_| taken(wait(limiter.take(1)))));
        store.is_up.store(false, Relaxed);
        assert!(!taken(wait(limiter.take(1))), "the share is spent");
    }

    #[test]
    fn a_local_limiter_never_waits() {
        let limiter = Limiter::new("1/h".parse().unwrap(), 2, 100);
        assert!(!limiter.is_shared());
        assert_eq!([(); 3].map(|()| taken(wait(limiter.take(1)))), [true, true, false]);
        assert!(limiter.key(HashedKey::Value(b"a")) <= u64::MAX.into());
    }
}
