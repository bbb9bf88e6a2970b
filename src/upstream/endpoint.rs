//! One backend of one upstream, and all that is known of it. Who is chosen is the balance's.
//!
//! It comes in two layers. The inner one, the load, belongs to (upstream, address) and survives
//! every reload and every change of membership: a WebSocket opened a week ago is still counted.
//! The outer one adds the health, which is the verdict of one health check: a reload with other
//! `health_check` settings starts a new outer layer from the old verdict, so that the probes of two
//! generations never push each other over their thresholds.

use super::address::Address;
use super::clock;
use super::health_score::{Health, Score, Thresholds};
use super::join_time::JoinTime;
use super::latency::PeakEwma;
use super::passive_health::{Passive, Proof};
use crate::telemetry::metrics::EndpointMetrics;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Names an endpoint for the life of the process, across reloads. Cheap to keep in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// As a number, for rooms that know no endpoints.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What belongs to (upstream, address) and outlives every generation.
#[derive(Debug)]
pub(super) struct Load {
    token: Token,
    active: AtomicUsize,
    latency: PeakEwma,
    // An allocation of its own: it is read for every choice, while the counts beside it change with every request.
    drained: Arc<AtomicU64>,
}

impl Load {
    fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let token = Token(NEXT.fetch_add(1, Relaxed));
        Arc::new(Self {
            token,
            active: AtomicUsize::new(0),
            latency: PeakEwma::default(),
            drained: Arc::default(),
        })
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Relaxed)
    }
}

/// One backend of one upstream.
#[derive(Debug)]
pub struct Endpoint {
    upstream: Arc<str>,
    address: Address,
    name: Box<str>,
    /// The host name that stands for its address now, if one does.
    host: RwLock<Option<Arc<str>>>,
    metrics: Arc<EndpointMetrics>,
    load: Arc<Load>,
    /// What `score` says, to be read without its lock.
    health: AtomicU8,
    score: Mutex<Score>,
    /// Whether a probe of it has ended.
    is_probed: AtomicBool,
    passive: Passive,
    arrival: JoinTime,
    /// The load's, within one step: since when an operator wants it left, 0 is not at all.
    drained: Arc<AtomicU64>,
}

impl Endpoint {
    /// A new endpoint, with the load that its address had before if it had one.
    pub(super) fn new(
        upstream: &Arc<str>,
        address: Address,
        load: Option<Arc<Load>>,
        health: Health,
    ) -> Arc<Self> {
        let load = load.unwrap_or_else(Load::new);
        Arc::new(Self {
            drained: Arc::clone(&load.drained),
            metrics: EndpointMetrics::of(upstream, &address.to_string()),
            upstream: Arc::clone(upstream),
            name: address.to_string().into(),
            address,
            host: RwLock::default(),
            load,
            health: AtomicU8::new(health as u8),
            score: Mutex::new(Score::new(health)),
            is_probed: AtomicBool::new(false),
            passive: Passive::default(),
            arrival: JoinTime::default(),
        })
    }

    /// The same endpoint under another host name: with its load, its health and its arrival.
    pub(super) fn renamed(&self, host: Option<Arc<str>>) -> Arc<Self> {
        let load = Some(Arc::clone(&self.load));
        let endpoint = Self::new(&self.upstream, self.address.clone(), load, self.verdict());
        endpoint.set_host(host);
        endpoint.arrival.inherit(&self.arrival);
        endpoint
    }

    /// The name of its upstream.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Its address as text, for logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its series.
    pub fn metrics(&self) -> &Arc<EndpointMetrics> {
        &self.metrics
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The host name that stands for its address, as it was written; none where the address was.
    pub fn host(&self) -> Option<Arc<str>> {
        self.host.read().clone()
    }

    pub(super) fn set_host(&self, host: Option<Arc<str>>) {
        *self.host.write() = host;
    }

    /// Its name within this process; a reload does not change it.
    pub fn token(&self) -> Token {
        self.load.token
    }

    /// The requests and WebSockets that are on it or on their way to it.
    pub fn active(&self) -> usize {
        self.load.active()
    }

    /// Whether an operator wants it left. That belongs to its address too, and survives reloads.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed) != 0
    }

    /// Since when an operator wants it left, in milliseconds of this module's clock.
    pub(super) fn drained_since(&self) -> Option<u64> {
        Some(self.drained.load(Relaxed)).filter(|since| *since != 0)
    }

    pub(super) fn set_drained(&self, drained: bool) {
        // The same order once more changes nothing: the drain goes on from where it began.
        let changed = |since| (drained != (since != 0)).then(|| if drained { clock::now() } else { 0 });
        let _ = self.drained.fetch_update(Relaxed, Relaxed, changed);
    }

    /// The verdict of its probes; while its traffic failed too often, unhealthy.
    pub fn health(&self) -> Health {
        match self.verdict() {
            Health::Healthy if self.is_ejected() => Health::Unhealthy,
            verdict => verdict,
        }
    }

    /// Whether its traffic failed so often that it is out for a while.
    pub fn is_ejected(&self) -> bool {
        self.passive.is_out(clock::now)
    }

    /// The verdict of its probes alone.
    pub(super) fn verdict(&self) -> Health {
        Health::from_u8(self.health.load(Relaxed))
    }

    /// Whether nothing is known of it before its first probe has ended.
    pub(super) fn awaits_first_probe(&self) -> bool {
        self.verdict() == Health::Unknown && !self.is_probed.load(Relaxed)
    }

    /// Whether it takes traffic.
    pub(super) fn is_usable(&self) -> bool {
        self.verdict() == Health::Healthy && !self.is_ejected()
    }

    /// Its decayed peak latency in microseconds; 0 when nothing is known.
    pub(super) fn latency(&self) -> f32 {
        self.load.latency.read(clock::now())
    }

    pub(super) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    pub(super) fn passive(&self) -> &Passive {
        &self.passive
    }

    /// When it came, as it is noted.
    pub(super) fn arrival(&self) -> &JoinTime {
        &self.arrival
    }

    /// When it came or came back, in milliseconds of this room's clock; 0 when it was there from the start.
    pub(super) fn came(&self, now: u64) -> u64 {
        self.arrival.moment().max(self.passive.back_since(now))
    }

    pub(super) fn enter(&self) {
        self.load.active.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self) {
        self.load.active.fetch_sub(1, Relaxed);
    }

    pub(super) fn answered(&self, latency: std::time::Duration) {
        let now = clock::now();
        self.load.latency.observe(latency, now);
        self.well(Proof::Handshake, now);
    }

    fn well(&self, proof: Proof, now: u64) {
        // It is back since its time was over; since now, when a success ended that earlier.
        if let Some(until) = self.passive.well(proof) {
            self.arrival.begin(until.min(now));
        }
    }

    /// Takes in a probe's outcome, and what its success proves; the new health when it changed.
    pub(super) fn probed(&self, well: bool, proof: Proof, thresholds: Thresholds) -> Option<Health> {
        let now = clock::now();
        if well {
            self.well(proof, now);
        }
        let mut score = self.score.lock();
        let before = self.verdict();
        let changed = score.observe(well, thresholds);
        if let Some(changed) = changed {
            match (before, changed) {
                (Health::Unhealthy, Health::Healthy) => self.arrival.begin(now),
                (Health::Unknown, Health::Healthy) => self.arrival.begin_if_expected(now),
                _ => {}
            }
            self.health.store(changed as u8, Relaxed);
        }
        self.is_probed.store(true, Relaxed);
        changed
    }
}
