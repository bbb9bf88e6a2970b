//! Metrics: counters, gauges and histograms, and their exposition for Prometheus and OpenMetrics.
//!
//! Counting needs no lookup: each compiled route, endpoint and tunnel holds a handle to its series and adds
//! to atomics. Numbers with an owner elsewhere are not duplicated; the owner adds them at a scrape as a
//! [`MetricSource`]. A series lives as long as its handles: a removed one ends with its last request, and one
//! kept by a reload keeps its counts.

mod dns_lookups;
mod endpoint;
mod exposition;
mod failed_requests;
mod histogram;
mod http2;
mod inherited;
mod lazy_handle;
pub(crate) mod names;
mod plugin;
mod process;
mod proxy_header;
mod route;
mod status_counts;
mod store;
mod tasks;
#[cfg(test)]
mod tests;
mod text_format;
mod tls;
mod tracing;
mod tunnel;
mod upgraded_connection;
mod upgrades;
mod weak_registry;
mod websocket_labels;
mod websocket_traffic;
mod websockets;

pub(crate) use dns_lookups::{LookupResult, Lookups};
pub(crate) use endpoint::{EndpointMetrics, UpstreamMetrics};
pub(crate) use exposition::{Exposition, MetricSource};
pub(crate) use histogram::ObservedValue;
pub(crate) use http2::{Http2Connections, StreamEnd};
pub(crate) use inherited::CountedSeries;
pub(crate) use lazy_handle::LazyHandle;
pub(crate) use names::NONE;
pub(crate) use plugin::{Call, Phase, PluginMetrics};
pub(crate) use process::ProcessValues;
pub(crate) use proxy_header::{Preamble, ProxyHeaderMetrics};
pub(crate) use route::{ClientAbort, ResponseMetrics, RouteCounts, RouteMetrics};
pub(crate) use store::{StoreMetrics, StoreOutcome};
pub(crate) use tasks::Tasks;
pub(crate) use text_format::TextFormat;
pub(crate) use tls::TlsMetrics;
pub(crate) use tracing::SpanDrop;
pub(crate) use tunnel::TunnelMetrics;
pub(crate) use upgraded_connection::UpgradeMetrics;
pub(crate) use websocket_labels::{Direction, InitiatorLabel, Opcode, Reconnected, Side};
#[cfg(test)]
pub(crate) use websocket_traffic::Traffic;
pub(crate) use websockets::SocketCounts;

use failed_requests::FailedRequests;
use inherited::InheritedCounts;
use moongate_expr::Expression;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::Tracing;
use weak_registry::WeakRegistry;

static PROCESS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// The metrics of this process.
pub(crate) fn global() -> &'static Metrics {
    &PROCESS
}

/// All metrics in this format.
pub(crate) fn render(format: TextFormat) -> String {
    PROCESS.render(format)
}

/// The counts so far, for a process that this one hands over to.
pub(crate) fn counted() -> Vec<CountedSeries> {
    let scrape = Exposition::recorder(PROCESS.inherited.lock().clone());
    PROCESS.collect(scrape).into_recorded()
}

/// Continues the counts of the process that handed over to this one, in place of those from an earlier call.
pub(crate) fn inherit(counts: Vec<CountedSeries>) {
    *PROCESS.inherited.lock() = Some(Arc::new(InheritedCounts::new(counts)));
}

/// A set of series. The process has one ([`global`]); tests create their own.
#[derive(Default)]
pub(crate) struct Metrics {
    routes: WeakRegistry<Box<str>, RouteMetrics>,
    upstreams: WeakRegistry<Box<str>, UpstreamMetrics>,
    endpoints: WeakRegistry<(Box<str>, Box<str>), EndpointMetrics>,
    plugins: WeakRegistry<(Box<str>, Box<str>), PluginMetrics>,
    stores: WeakRegistry<Box<str>, StoreMetrics>,
    tls: WeakRegistry<Box<str>, TlsMetrics>,
    preambles: WeakRegistry<Box<str>, ProxyHeaderMetrics>,
    sources: Mutex<Vec<Weak<dyn MetricSource>>>,
    config: Config,
    http2: Arc<Http2Connections>,
    failed: FailedRequests,
    lookups: Lookups,
    tasks: Tasks,
    tracing: Tracing,
    log_dropped: AtomicU64,
    admin_evicted: AtomicU64,
    /// The counts of the process that handed over to this one.
    inherited: Mutex<Option<Arc<InheritedCounts>>>,
}

/// The result of the last reload.
#[derive(Debug, Default)]
struct Config {
    generation: AtomicU64,
    successful: AtomicBool,
    at: AtomicU64,
}

impl Metrics {
    /// See [`RouteMetrics::of`].
    pub(crate) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.routes.get(name.into(), || RouteMetrics::new(name))
    }

    /// See [`UpstreamMetrics::of`].
    pub(crate) fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        self.upstreams.get(name.into(), || UpstreamMetrics::new(name))
    }

    /// See [`EndpointMetrics::of`].
    pub(crate) fn endpoint(&self, upstream: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let key = (upstream.into(), endpoint.into());
        self.endpoints.get(key, || EndpointMetrics::new(upstream, endpoint))
    }

    /// See [`StoreMetrics::of`].
    pub(crate) fn store(&self, name: &str) -> Arc<StoreMetrics> {
        self.stores.get(name.into(), || StoreMetrics::new(name))
    }

    /// See [`PluginMetrics::of`].
    pub(crate) fn plugin(&self, name: &str, kind: &str) -> Arc<PluginMetrics> {
        self.plugins.get((name.into(), kind.into()), || PluginMetrics::new(name, kind))
    }

    /// See [`TlsMetrics::of`].
    pub(crate) fn tls(&self, listener: &str) -> Arc<TlsMetrics> {
        self.tls.get(listener.into(), || TlsMetrics::new(listener))
    }

    /// See [`ProxyHeaderMetrics::of`].
    pub(crate) fn preamble(&self, listener: &str) -> Arc<ProxyHeaderMetrics> {
        self.preambles.get(listener.into(), || ProxyHeaderMetrics::new(listener))
    }

    /// Reads `source` at every scrape, until its owner drops it.
    pub(crate) fn register(&self, source: Weak<dyn MetricSource>) {
        let mut sources = self.sources.lock();
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// Records that configuration number `generation` is in use, the first one included.
    pub(crate) fn config_taken(&self, generation: u64) {
        self.config.generation.store(generation, Relaxed);
        self.config.note(true);
    }

    /// Records that configuration number `generation` is in use after a change of documents, which is no reload of the file.
    pub(crate) fn config_changed(&self, generation: u64) {
        self.config.generation.store(generation, Relaxed);
    }

    /// Records that a configuration was refused, and the previous one stays in use.
    pub(crate) fn config_refused(&self) {
        self.config.note(false);
    }

    /// Counts lost lines of the access log.
    pub(crate) fn access_log_dropped(&self, lines: u64) {
        self.log_dropped.fetch_add(lines, Relaxed);
    }

    /// Counts a connection of the admin address that was closed to make room for a new one.
    pub(crate) fn admin_connection_evicted(&self) {
        self.admin_evicted.fetch_add(1, Relaxed);
    }

    /// Counts a request that failed or was refused, by the reason's name.
    pub(crate) fn request_failed(&self, reason: &'static str) {
        self.failed.add(reason);
    }

    /// The HTTP/2 connections of clients.
    pub(crate) fn http2(&self) -> &Arc<Http2Connections> {
        &self.http2
    }

    /// Lookups of host names.
    pub(crate) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// The long-lived tasks of the process.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The counts of every route.
    pub(crate) fn route_counts(&self) -> Vec<RouteCounts> {
        self.routes.instances().iter().map(|route| route.counts()).collect()
    }

    /// Failed requests by reason.
    pub(crate) fn failed_requests(&self) -> Vec<(&'static str, u64)> {
        self.failed.counts()
    }

    /// The ping round trips of all clients, in seconds.
    pub(crate) fn client_round_trips(&self) -> ObservedValue {
        let mut sum = ObservedValue::default();
        for route in self.routes.instances() {
            if let Some(sockets) = route.known_sockets() {
                sum.add(sockets.round_trips(Side::Client).observed());
            }
        }
        sum
    }

    /// The spans of traces.
    pub(crate) fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// A scrape in this format.
    pub(crate) fn render(&self, format: TextFormat) -> String {
        let inherited = self.inherited.lock().clone();
        self.collect(Exposition::new(format, inherited)).encode()
    }

    fn collect(&self, mut scrape: Exposition) -> Exposition {
        self.routes.instances().iter().for_each(|route| route.collect(&mut scrape));
        self.upstreams.instances().iter().for_each(|upstream| upstream.collect(&mut scrape));
        self.endpoints.instances().iter().for_each(|endpoint| endpoint.collect(&mut scrape));
        self.plugins.instances().iter().for_each(|plugin| plugin.collect(&mut scrape));
        self.stores.instances().iter().for_each(|store| store.collect(&mut scrape));
        self.tls.instances().iter().for_each(|tls| tls.collect(&mut scrape));
        self.preambles.instances().iter().for_each(|preamble| preamble.collect(&mut scrape));
        // Collected without the lock, because a source may take its own locks.
        let sources: Vec<_> = self.sources.lock().iter().filter_map(Weak::upgrade).collect();
        sources.iter().for_each(|source| source.collect(&mut scrape));
        self.failed.collect(&mut scrape);
        self.http2.collect(&mut scrape);
        self.lookups.collect(&mut scrape);
        self.tasks.collect(&mut scrape);
        self.tracing.collect(&mut scrape);
        self.config.collect(&mut scrape);
        scrape.counter(&names::EXPRESSION_FAILURES, &[], Expression::failures() as f64);
        let evicted = self.admin_evicted.load(Relaxed);
        scrape.counter(&names::ADMIN_CONNECTIONS_EVICTED, &[], evicted as f64);
        scrape.counter(&names::ACCESS_LOG_DROPPED, &[], self.log_dropped.load(Relaxed) as f64);
        scrape.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        process::collect(&mut scrape);
        scrape
    }
}

impl Config {
    fn note(&self, successful: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.successful.store(successful, Relaxed);
        self.at.store(now.as_secs(), Relaxed);
    }

    fn collect(&self, scrape: &mut Exposition) {
        let successful = u8::from(self.successful.load(Relaxed));
        scrape.gauge(&names::CONFIG_LAST_RELOAD_SUCCESSFUL, &[], f64::from(successful));
        scrape.gauge(&names::CONFIG_GENERATION, &[], self.generation.load(Relaxed) as f64);
        scrape.gauge(&names::CONFIG_LAST_RELOAD_TIMESTAMP, &[], self.at.load(Relaxed) as f64);
    }
}
