//! A rate limit in a store: exact for requests, and by leases for messages.

use super::connection::TokenRequest;
use super::message_lease::{LeaseLimit, LeaseRequest, MessageLease};
use super::store::{OnFailure, Store};
use indexmap::IndexMap;
use moongate_config::{Problem, Rate};
use moongate_sdk::{
    SharedFuture, SharedLimiter, SharedOutcome, TokenOutcome, TokenRate, nanoseconds, share_of,
};
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The highest rate of a store, per second: the interval of tokens is then 40 times the resolution of the numbers there.
const HIGHEST: u128 = 100_000;
/// The number of locks over which keys are spread.
const SHARDS: usize = 16;
/// Below this many keys of a shard, idle ones are not removed.
const SWEEP_FROM: usize = 64;
/// The number of sampled leases for an eviction.
const SAMPLE: usize = 8;
/// The `wait` of a request that `on_failure: closed` refuses: the interval of probes.
const CLOSED_WAIT: u64 = 1_000_000_000;

/// A limit of one entry in a store.
pub(crate) struct SharedTokens {
    store: Arc<Store>,
    scope: String,
    rate: Rate,
    burst: u32,
    /// Leases of a shard.
    most: usize,
    begun: Instant,
    leases: Box<[Mutex<Leases>]>,
    own: Weak<SharedTokens>,
}

#[derive(Default)]
struct Leases {
    by_key: IndexMap<u128, MessageLease>,
    sweep_at: usize,
}

impl SharedTokens {
    /// The limit `scope` (owner and entry) in `store`.
    ///
    /// # Errors
    /// The rate is too high for a store.
    pub(crate) fn new(
        store: Arc<Store>,
        scope: String,
        rate: Rate,
        burst: u32,
        max_keys: usize,
    ) -> Result<Arc<Self>, Problem> {
        if u128::from(rate.count().get()) > HIGHEST * u128::from(rate.period().as_secs()) {
            return Err(Problem::new(format!("`{rate}` is too high for a store")).help("at most 100000/s"));
        }
        Ok(Arc::new_cyclic(|own| Self {
            store,
            scope,
            rate,
            burst,
            most: max_keys.div_ceil(SHARDS).max(SAMPLE),
            begun: Instant::now(),
            leases: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            own: own.clone(),
        }))
    }

    /// Whether it is the same limit.
    pub(super) fn is_of(&self, store: &Arc<Store>, scope: &str, rate: Rate, burst: u32) -> bool {
        Arc::ptr_eq(&self.store, store) && self.scope == scope && self.rate == rate && self.burst == burst
    }

    /// Takes that many tokens, of those leased or on credit, whether they are there or not; returns whether they were.
    pub(super) fn charge_leased(&self, key: u128, count: u32) -> bool {
        let (now, terms) = (self.now(), self.lease_limit());
        let share = match (self.store.is_up(), self.store.settings().on_failure) {
            (true, _) => None,
            (false, OnFailure::Local) => Some(share_of(self.rate, self.burst, terms.gateways)),
            (false, OnFailure::Open) => return true,
            (false, OnFailure::Closed) => return false,
        };
        let (is_within, request) = {
            let mut leases = self.shard(key).lock();
            leases.make_room(key, self.most, now);
            let lease = leases.by_key.entry(key).or_default();
            match share {
                None => lease.charge(count, &terms, now),
                Some(share) => (lease.charge_share(count, &share, now), None),
            }
        };
        if let Some(request) = request {
            self.ask(key, request);
        }
        is_within
    }

    /// How many tokens there are; without any, the time until those of `pause` are there.
    pub(super) fn room(&self, key: u128, pause: Duration) -> (u64, Duration) {
        let (now, terms) = (self.now(), self.lease_limit());
        let rate = match (self.store.is_up(), self.store.settings().on_failure) {
            (true, _) => terms.rate,
            (false, OnFailure::Local) => share_of(self.rate, self.burst, terms.gateways),
            (false, OnFailure::Open) => return (u64::MAX, Duration::ZERO),
            (false, OnFailure::Closed) => return (0, Duration::from_nanos(CLOSED_WAIT)),
        };
        let leases = self.shard(key).lock();
        let unused = MessageLease::default();
        let lease = leases.by_key.get(&key).unwrap_or(&unused);
        let (left, wait) = lease.room(&rate, nanoseconds(pause), now);
        (left, Duration::from_nanos(wait))
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn key(&self, client: Option<u128>) -> String {
        self.store.key("rate", &self.scope, client)
    }

    fn request(&self, owed: i64, wanted: u32, queue: Duration) -> TokenRequest {
        let interval = self.rate.period().as_micros() as f64 / f64::from(self.rate.count().get());
        TokenRequest { interval, burst: self.burst, owed, wanted, queue }
    }

    /// Reserves a token that is available within `longest`; returns the wait for it, or the wait until one would be
    /// available. `None` if the store is unavailable.
    pub(crate) async fn reserve(&self, longest: Duration) -> Option<Result<Duration, Duration>> {
        let grant = self.store.tokens(self.key(None), self.request(0, 1, longest)).await?;
        Some(if grant.given > 0 { Ok(grant.wait) } else { Err(grant.wait) })
    }

    /// Returns a token that was reserved.
    pub(crate) fn give_back(&self) {
        let (key, request) = (self.key(None), self.request(-1, 0, Duration::ZERO));
        self.defer(async move |limit| {
            let _ = limit.store.tokens(key, request).await;
        });
    }

    fn unavailable(&self) -> SharedOutcome {
        match self.store.settings().on_failure {
            OnFailure::Local => SharedOutcome::Local,
            OnFailure::Open => {
                SharedOutcome::Decided(TokenOutcome::Taken { left: self.burst.into(), full: 0 })
            }
            OnFailure::Closed => {
                SharedOutcome::Decided(TokenOutcome::Refused { wait: CLOSED_WAIT, full: CLOSED_WAIT })
            }
        }
    }

    fn lease_limit(&self) -> LeaseLimit {
        let rate = TokenRate::of(self.rate, self.burst);
        LeaseLimit { rate, burst: self.burst, gateways: self.store.gateways() }
    }

    fn shard(&self, key: u128) -> &Mutex<Leases> {
        &self.leases[(key >> 124) as usize % SHARDS]
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }

    /// Sends the request of a lease, and those that follow from it.
    fn ask(&self, key: u128, request: LeaseRequest) {
        self.defer(async move |limit| {
            let mut next = Some(request);
            while let Some(request) = next {
                let of_store = limit.request(request.owed.into(), request.wanted, Duration::ZERO);
                let grant = limit.store.tokens(limit.key(Some(key)), of_store).await;
                let (now, terms) = (limit.now(), limit.lease_limit());
                let mut leases = limit.shard(key).lock();
                let Some(lease) = leases.by_key.get_mut(&key) else { return };
                next = match grant {
                    Some(grant) => {
                        lease.granted(grant.given, nanoseconds(grant.full), &terms, now);
                        lease.request(&terms)
                    }
                    None => {
                        lease.failed(request, &terms);
                        None
                    }
                };
            }
        });
    }

    fn defer<W>(&self, work: impl FnOnce(Arc<Self>) -> W + Send + 'static)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let Some(own) = self.own.upgrade() else { return };
        self.store.defer(Box::new(move || Box::pin(work(own))));
    }
}

impl SharedLimiter for SharedTokens {
    fn take(&self, key: u128) -> SharedFuture<'_> {
        Box::pin(async move {
            let request = self.request(0, 1, Duration::ZERO);
            let Some(grant) = self.store.tokens(self.key(Some(key)), request).await else {
                return self.unavailable();
            };
            let full = nanoseconds(grant.full);
            SharedOutcome::Decided(if grant.given > 0 {
                let (rate, now) = (TokenRate::of(self.rate, self.burst), 0);
                let left = moongate_sdk::TokenBucket::paid_by(full).left(&rate, now);
                TokenOutcome::Taken { left, full }
            } else {
                TokenOutcome::Refused { wait: nanoseconds(grant.wait), full }
            })
        })
    }

    fn take_leased(&self, key: u128) -> SharedOutcome {
        if !self.store.is_up() {
            return self.unavailable();
        }
        let (now, terms) = (self.now(), self.lease_limit());
        let (outcome, request) = {
            let mut leases = self.shard(key).lock();
            leases.make_room(key, self.most, now);
            leases.by_key.entry(key).or_default().take(&terms, now)
        };
        if let Some(request) = request {
            self.ask(key, request);
        }
        SharedOutcome::Decided(outcome)
    }

    fn gateways(&self) -> u32 {
        self.store.gateways()
    }
}

impl Leases {
    /// Forgets idle leases when their number has doubled, and the least-loaded of a sample if there are too many.
    fn make_room(&mut self, key: u128, most: usize, now: u64) {
        if self.by_key.contains_key(&key) {
            return;
        }
        if self.by_key.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.by_key.retain(|_, lease| !lease.is_idle(now));
            self.sweep_at = self.by_key.len() * 2;
        }
        if self.by_key.len() >= most {
            let sample = (0..SAMPLE).map(|_| fastrand::usize(..self.by_key.len()));
            let least = sample.min_by_key(|at| self.by_key.get_index(*at).map(|(_, lease)| lease.load(now)));
            if let Some(at) = least {
                self.by_key.swap_remove_index(at);
            }
        }
    }
}

impl fmt::Debug for SharedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTokens").field("scope", &self.scope).finish_non_exhaustive()
    }
}
