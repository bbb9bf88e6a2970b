//! Metrics of one route: responses by upstream and status, latency, WebSockets, and other upgraded connections.

use super::exposition::Exposition;
use super::histogram::Histogram;
use super::names;
use super::status_counts::Statuses;
use super::upgrades::Upgrades;
use super::weak_registry::WeakRegistry;
use super::websocket_traffic::Traffic;
use super::websockets::{SocketCounts, Sockets};
use crate::telemetry::TraceId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The series of one route, as long as a compiled route holds the handle.
///
/// Histograms, and counters of WebSockets and other upgraded connections, are created at their first use.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) name: Box<str>,
    answers: WeakRegistry<Box<str>, ResponseMetrics>,
    duration: OnceLock<Histogram>,
    sockets: OnceLock<Box<Sockets>>,
    upgrades: OnceLock<Box<Upgrades>>,
    /// By [`ClientAbort`].
    aborts: [AtomicU64; 3],
}

/// The reason for the end of a request by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAbort {
    /// The client disconnected.
    Gone,
    /// The client sent its body too slowly.
    Body,
    /// The client read its response too slowly.
    Send,
}

impl ClientAbort {
    const ALL: [Self; 3] = [Self::Gone, Self::Body, Self::Send];

    fn label(self) -> &'static str {
        match self {
            Self::Gone => "client_gone",
            Self::Body => "body_timeout",
            Self::Send => "send_timeout",
        }
    }
}

/// The counts of one route.
#[derive(Clone, Debug)]
pub(crate) struct RouteCounts {
    /// The route's name.
    pub route: Box<str>,
    /// Responses by upstream, WebSocket handshakes included.
    pub responses: Vec<(Box<str>, u64)>,
    /// WebSockets at each endpoint.
    pub sockets: Vec<SocketCounts>,
    /// The traffic of WebSockets at endpoints that no longer exist.
    pub former: Traffic,
}

/// The responses of one route through one upstream.
#[derive(Debug)]
pub struct ResponseMetrics {
    route: Arc<RouteMetrics>,
    upstream: Box<str>,
    statuses: Statuses,
}

impl RouteMetrics {
    /// The existing or new series of `route`.
    ///
    /// Keep the handle of a compiled route: counts live as long as a handle. [`names::NONE`] is the route of
    /// requests without a match.
    pub fn of(route: &str) -> Arc<Self> {
        super::global().route(route)
    }

    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            answers: WeakRegistry::default(),
            duration: OnceLock::new(),
            sockets: OnceLock::new(),
            upgrades: OnceLock::new(),
            aborts: Default::default(),
        }
    }

    /// The handle for responses through `upstream`; [`names::NONE`] for responses of the gateway itself.
    pub fn responses(self: &Arc<Self>, upstream: &str) -> Arc<ResponseMetrics> {
        self.answers.get(upstream.into(), || ResponseMetrics {
            route: Arc::clone(self),
            upstream: upstream.into(),
            statuses: Statuses::default(),
        })
    }

    /// The counts at this moment.
    pub(super) fn counts(&self) -> RouteCounts {
        let responses = self.answers.instances();
        let (sockets, former) = self.sockets.get().map(|sockets| sockets.counts()).unwrap_or_default();
        RouteCounts {
            route: self.name.clone(),
            responses: responses.iter().map(|each| (each.upstream.clone(), each.statuses.total())).collect(),
            sockets,
            former,
        }
    }

    /// The WebSocket counters, if the route has had a WebSocket.
    pub(super) fn known_sockets(&self) -> Option<&Sockets> {
        self.sockets.get().map(|sockets| &**sockets)
    }

    pub(super) fn sockets(&self) -> &Sockets {
        self.sockets.get_or_init(Box::default)
    }

    pub(super) fn upgrades(&self) -> &Upgrades {
        self.upgrades.get_or_init(Box::default)
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for answers in self.answers.instances() {
            answers.statuses.each(|status, count| {
                scrape.counter(&names::HTTP_REQUESTS, &[&self.name, &answers.upstream, status], count as f64);
            });
        }
        for (reason, count) in ClientAbort::ALL.into_iter().zip(&self.aborts) {
            match count.load(Relaxed) {
                0 => {}
                count => {
                    scrape.counter(&names::HTTP_CLIENT_ABORTS, &[&self.name, reason.label()], count as f64);
                }
            }
        }
        if let Some(duration) = self.duration.get() {
            scrape.histogram(&names::HTTP_REQUEST_DURATION, &[&self.name], duration);
        }
        if let Some(sockets) = self.sockets.get() {
            sockets.collect(&self.name, scrape);
        }
        if let Some(upgrades) = self.upgrades.get() {
            upgrades.collect(&self.name, scrape);
        }
    }
}

impl ResponseMetrics {
    /// Counts an HTTP request with its status and duration: three relaxed atomic adds. The trace of a recorded request
    /// becomes an exemplar of its duration.
    pub(crate) fn request(&self, status: u16, duration: Duration, trace: Option<TraceId>) {
        self.statuses.add(status);
        let histogram = self.route.duration.get_or_init(|| Histogram::new(&names::HTTP_REQUEST_DURATION));
        match trace {
            Some(trace) => histogram.observe_with_trace(duration.as_secs_f64(), trace),
            None => histogram.observe(duration.as_secs_f64()),
        }
    }

    /// Counts a request that its client ended.
    pub fn aborted(&self, reason: ClientAbort) {
        self.route.aborts[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a WebSocket handshake with its status. The duration of a 101 is not latency, so it is not
    /// observed.
    pub fn handshake(&self, status: u16) {
        self.statuses.add(status);
    }
}
