//! One endpoint of one upstream: load, health and metrics. Selection is in `balance`.
//!
//! An endpoint has two layers. The inner one, the load, belongs to (upstream, identity) and survives every
//! reload and every change of membership: a WebSocket opened a week ago is still counted. The outer one adds
//! the health. A reload with other `health_check` settings starts a new outer layer from the old verdict, so
//! that probes of two generations do not share thresholds.

use super::address::Address;
use super::announced::Identity;
use super::endpoint_watch::{EndpointWatch, EndpointWatches};
use super::health_score::{Health, Score, Thresholds};
use super::join_time::JoinTime;
use super::latency::PeakEwma;
use super::monotonic_millis;
use super::passive_health::{Passive, PassiveState, Policy, Proof, Reason};
use crate::telemetry::metrics::{EndpointMetrics, LazyHandle};
use crate::telemetry::unix_millis;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Identifies an endpoint for the lifetime of the process, across reloads. Small enough to keep in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// The token as a number, for modules that do not know endpoints.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of (upstream, identity), which survives every generation.
#[derive(Debug)]
pub(super) struct Load {
    token: Token,
    active: AtomicUsize,
    latency: PeakEwma,
    /// When an operator's drain began; 0 means not draining.
    drained: AtomicU64,
    watches: EndpointWatches,
}

impl Load {
    fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let token = Token(NEXT.fetch_add(1, Relaxed));
        Arc::new(Self {
            token,
            active: AtomicUsize::new(0),
            latency: PeakEwma::default(),
            drained: AtomicU64::new(0),
            watches: EndpointWatches::default(),
        })
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Relaxed)
    }
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeResult {
    /// Whether it succeeded.
    pub ok: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it ended, in Unix milliseconds.
    pub at: u64,
}

impl ProbeResult {
    /// The result of a probe that ends now; a failed one has a reason.
    pub(super) fn now(reason: Option<String>) -> Self {
        Self { ok: reason.is_none(), reason, at: unix_millis() }
    }
}

/// The HTTP version of a backend that may support HTTP/2 over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendVersion {
    /// HTTP/2, as far as is known.
    Http2,
    /// It selected HTTP/1.1 for the last connection. It may select another version for the next one.
    ChoseHttp1,
    /// It has demanded HTTP/1.1 of a request, and gets no HTTP/2 any more.
    DemandsHttp1,
}

impl BackendVersion {
    const ALL: [Self; 3] = [Self::Http2, Self::ChoseHttp1, Self::DemandsHttp1];
}

/// One backend of one upstream.
#[derive(Debug)]
pub struct Endpoint {
    upstream: Arc<str>,
    identity: Identity,
    name: Arc<str>,
    /// The host name that currently resolves to this address, if any.
    host: RwLock<Option<Arc<str>>>,
    metrics: Arc<LazyHandle<Arc<EndpointMetrics>>>,
    load: Arc<Load>,
    /// A copy of the verdict in `score`, readable without a lock.
    health: AtomicU8,
    score: Mutex<Score>,
    /// Whether the first probe of the endpoint has ended.
    is_probed: AtomicBool,
    last_probe: Mutex<Option<ProbeResult>>,
    passive: Passive,
    join_time: JoinTime,
    /// A [`BackendVersion`].
    version: AtomicU8,
}

impl Endpoint {
    /// Creates an endpoint with the load that its identity had before, if any.
    pub(super) fn new(
        upstream: &Arc<str>,
        identity: Identity,
        load: Option<Arc<Load>>,
        health: Health,
    ) -> Arc<Self> {
        let name: Arc<str> = identity.address.to_string().into();
        let (of, at) = (Arc::clone(upstream), Arc::clone(&name));
        let metrics = Arc::new(LazyHandle::new(move || EndpointMetrics::of(&of, &at)));
        Self::with_metrics(upstream, identity, name, load, health, metrics)
    }

    fn with_metrics(
        upstream: &Arc<str>,
        identity: Identity,
        name: Arc<str>,
        load: Option<Arc<Load>>,
        health: Health,
        metrics: Arc<LazyHandle<Arc<EndpointMetrics>>>,
    ) -> Arc<Self> {
        let load = load.unwrap_or_else(Load::new);
        Arc::new(Self {
            metrics,
            upstream: Arc::clone(upstream),
            name,
            identity,
            host: RwLock::default(),
            load,
            health: AtomicU8::new(health as u8),
            score: Mutex::new(Score::new(health)),
            is_probed: AtomicBool::new(false),
            last_probe: Mutex::default(),
            passive: Passive::default(),
            join_time: JoinTime::default(),
            version: AtomicU8::new(BackendVersion::Http2 as u8),
        })
    }

    /// A copy with another host name and the same load, health and join time.
    pub(super) fn renamed(&self, host: Option<Arc<str>>) -> Arc<Self> {
        let endpoint = self.with_health(self.verdict());
        endpoint.set_host(host);
        endpoint.join_time.inherit(&self.join_time);
        endpoint.last_probe.lock().clone_from(&self.last_probe.lock());
        endpoint
    }

    /// A copy with the same identity, load and metrics, without host name and join time.
    pub(super) fn with_health(&self, health: Health) -> Arc<Self> {
        let (load, metrics) = (Some(Arc::clone(&self.load)), Arc::clone(&self.metrics));
        let name = Arc::clone(&self.name);
        Self::with_metrics(&self.upstream, self.identity.clone(), name, load, health, metrics)
    }

    /// The name of the upstream.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The address as text, for logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metrics of the endpoint.
    pub fn metrics(&self) -> &LazyHandle<Arc<EndpointMetrics>> {
        &self.metrics
    }

    /// The address.
    pub fn address(&self) -> &Address {
        &self.identity.address
    }

    /// The identifier that its source has for it, if it has one: another endpoint may have had the address before.
    pub fn uid(&self) -> Option<&str> {
        self.identity.uid.as_deref()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The configured host name that resolves to the address; `None` for a configured address.
    pub fn host(&self) -> Option<Arc<str>> {
        self.host.read().clone()
    }

    pub(super) fn set_host(&self, host: Option<Arc<str>>) {
        *self.host.write() = host;
    }

    /// The token of the endpoint; it survives reloads.
    pub fn token(&self) -> Token {
        #[cfg(test)]
        super::testing::count_read();
        self.load.token
    }

    /// Requests and WebSockets at the endpoint, connecting ones included.
    pub fn active(&self) -> usize {
        #[cfg(test)]
        super::testing::count_read();
        self.load.active()
    }

    /// The HTTP version of a backend of `protocol: h2`.
    pub fn version(&self) -> BackendVersion {
        let number = usize::from(self.version.load(Relaxed));
        BackendVersion::ALL.get(number).copied().unwrap_or(BackendVersion::Http2)
    }

    /// Records what the backend has selected, or demanded, which stays.
    pub fn set_version(&self, version: BackendVersion) {
        if self.version() != BackendVersion::DemandsHttp1 {
            self.version.store(version as u8, Relaxed);
        }
    }

    /// Returns whether an operator drains the endpoint. The drain belongs to its identity and survives
    /// reloads.
    pub fn is_drained(&self) -> bool {
        self.drained_since().is_some()
    }

    /// When an operator's drain began, in milliseconds of the monotonic clock.
    pub(super) fn drained_since(&self) -> Option<u64> {
        #[cfg(test)]
        super::testing::count_read();
        Some(self.load.drained.load(Relaxed)).filter(|since| *since != 0)
    }

    pub(super) fn set_drained(&self, drained: bool) {
        // A repeated order changes nothing: the drain continues from its beginning.
        let changed =
            |since| (drained != (since != 0)).then(|| if drained { monotonic_millis::now() } else { 0 });
        if self.load.drained.fetch_update(Relaxed, Relaxed, changed).is_ok() {
            self.announce_change();
        }
    }

    /// Continues an operator's drain that began at that moment, which is not 0.
    pub(super) fn drain_since(&self, moment: u64) {
        self.load.drained.store(moment, Relaxed);
        self.announce_change();
    }

    /// Lets an upstream learn of changes from now on.
    pub(super) fn watch(&self, watch: &Arc<EndpointWatch>) {
        self.load.watches.add(watch);
    }

    /// Lets its upstreams learn when its load falls, from now on.
    pub(super) fn announce_leaves(&self) {
        self.load.watches.announce_leaves();
    }

    /// Something that selections depend on has changed.
    fn announce_change(&self) {
        self.load.watches.announce_change();
    }

    /// The verdict of its probes; unhealthy while the endpoint is ejected.
    pub fn health(&self) -> Health {
        match self.verdict() {
            Health::Healthy if self.is_ejected() => Health::Unhealthy,
            verdict => verdict,
        }
    }

    /// Returns whether the endpoint is ejected.
    pub fn is_ejected(&self) -> bool {
        self.passive.is_out(monotonic_millis::now)
    }

    /// The verdict of its probes, without passive health.
    pub(super) fn verdict(&self) -> Health {
        #[cfg(test)]
        super::testing::count_read();
        Health::from_u8(self.health.load(Relaxed))
    }

    /// Whether the health is unknown because the first probe has not ended.
    pub(super) fn awaits_first_probe(&self) -> bool {
        self.verdict() == Health::Unknown && !self.is_probed.load(Relaxed)
    }

    /// Whether the endpoint accepts traffic: healthy and not ejected.
    pub(super) fn is_usable(&self) -> bool {
        self.verdict() == Health::Healthy && !self.is_ejected()
    }

    /// The decayed peak latency in microseconds; 0 if unknown.
    pub(super) fn latency(&self) -> f32 {
        #[cfg(test)]
        super::testing::count_read();
        self.load.latency.read(monotonic_millis::now())
    }

    /// The decayed peak latency at the last response in microseconds; 0 without one.
    pub(super) fn last_latency(&self) -> f32 {
        self.load.latency.last()
    }

    pub(super) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    pub(super) fn passive(&self) -> &Passive {
        &self.passive
    }

    /// The join time as stored.
    pub(super) fn join_time(&self) -> &JoinTime {
        &self.join_time
    }

    /// When the endpoint joined or recovered, in milliseconds of the monotonic clock; 0 if it was present at
    /// startup.
    pub(super) fn joined_at(&self, now: u64) -> u64 {
        self.join_time.moment().max(self.passive.back_since(now))
    }

    pub(super) fn enter(&self) {
        self.load.active.fetch_add(1, Relaxed);
    }

    /// Counts one more unless the count has reached `limit`. In one step: two threads never exceed the limit
    /// together, and a refusal never takes the place that a third one needs.
    pub(super) fn try_enter(&self, limit: NonZeroU32) -> bool {
        let enter = |active: usize| (active < limit.get() as usize).then_some(active + 1);
        self.load.active.fetch_update(Relaxed, Relaxed, enter).is_ok()
    }

    pub(super) fn leave(&self) {
        self.load.active.fetch_sub(1, Relaxed);
        self.load.watches.announce_leave(self.load.token.get(), || self.active());
    }

    pub(super) fn record_latency(&self, latency: std::time::Duration) {
        let now = monotonic_millis::now();
        self.load.latency.observe(latency, now);
        self.record_success(Proof::Handshake, now);
    }

    fn record_success(&self, proof: Proof, now: u64) {
        // After an ejection the join time is the end of the ejection, or now if a success ended it early.
        if let Some(until) = self.passive.record_success(proof) {
            self.join_time.begin(until.min(now));
            self.announce_change();
        }
    }

    /// Records a failure of traffic; returns whether it ejected the endpoint.
    pub(super) fn record_failure(&self, reason: Reason, policy: Policy) -> bool {
        let is_ejected = self.passive.failed(reason, policy, monotonic_millis::now());
        if is_ejected {
            self.announce_change();
        }
        is_ejected
    }

    /// Continues with the passive health and the join time of another process.
    pub(super) fn restore(&self, passive: &PassiveState, joined: Option<u64>, now: u64) {
        self.passive.restore(passive, now);
        if let Some(joined) = joined {
            self.join_time.begin(joined);
        }
        self.announce_change();
    }

    /// The result of the last probe; `None` before the first one ended.
    pub(super) fn last_probe(&self) -> Option<ProbeResult> {
        self.last_probe.lock().clone()
    }

    pub(super) fn record_probe(&self, result: ProbeResult) {
        *self.last_probe.lock() = Some(result);
    }

    /// Records a probe's outcome and what its success proves; returns the new health if it changed.
    pub(super) fn probed(&self, well: bool, proof: Proof, thresholds: Thresholds) -> Option<Health> {
        let now = monotonic_millis::now();
        if well {
            self.record_success(proof, now);
        }
        let mut score = self.score.lock();
        let before = self.verdict();
        let changed = score.observe(well, thresholds);
        if let Some(changed) = changed {
            match (before, changed) {
                (Health::Unhealthy, Health::Healthy) => self.join_time.begin(now),
                (Health::Unknown, Health::Healthy) => self.join_time.begin_if_expected(now),
                _ => {}
            }
            self.health.store(changed as u8, Relaxed);
        }
        let is_first = !self.is_probed.swap(true, Relaxed);
        if is_first || changed.is_some() {
            self.announce_change();
        }
        changed
    }
}
