//! What one WebSocket counts, and the labels it counts under.

use super::endpoint::EndpointMetrics;
use super::exposition::Exposition;
use super::names;
use super::route::RouteMetrics;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

macro_rules! labels {
    ($(#[$about:meta])+ $name:ident { $($(#[$each:meta])+ $variant:ident = $label:literal,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$each])+ $variant,)+ }

        impl $name {
            /// Every value, in the order of its discriminants.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// As metrics and the access log show it.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// Which way a message goes.
    Direction {
        /// From the client.
        ToBackend = "to_backend",
        /// From the backend.
        ToClient = "to_client",
    }
}

labels! {
    /// What a message is: the opcode of its first frame (RFC 6455 §5.2).
    Opcode {
        /// A text message.
        Text = "text",
        /// A binary message.
        Binary = "binary",
        /// A Close frame.
        Close = "close",
        /// A Ping frame.
        Ping = "ping",
        /// A Pong frame.
        Pong = "pong",
        /// A reserved opcode, where the route passes invalid frames.
        Other = "other",
    }
}

labels! {
    /// One end of a WebSocket.
    Side {
        /// Who connected to the gateway.
        Client = "client",
        /// Whom the gateway connected to.
        Backend = "backend",
    }
}

labels! {
    /// Who ended a WebSocket.
    By {
        /// The client closed it or vanished.
        Client = "client",
        /// The backend closed it or vanished.
        Backend = "backend",
        /// The gateway: a limit, a drain, a dead peer.
        Gateway = "gateway",
    }
}

labels! {
    /// What became of a WebSocket whose endpoint was lost, on a route that keeps its clients.
    Reconnected {
        /// Another endpoint serves it.
        Moved = "moved",
        /// No endpoint took it in time.
        Failed = "failed",
        /// A message was cut in a way that no other endpoint could continue.
        Impossible = "impossible",
    }
}

/// The counting handle of one living WebSocket. Dropping it takes it off the gauge, however the tunnel ended.
#[derive(Debug)]
pub struct TunnelMetrics {
    route: Arc<RouteMetrics>,
    pair: Arc<Pair>,
    // Held so that the endpoint's series stay while a WebSocket lives there.
    _endpoint: Arc<EndpointMetrics>,
}

/// The WebSockets of one route at one endpoint.
#[derive(Debug)]
pub(super) struct Pair {
    endpoint: Weak<EndpointMetrics>,
    upstream_label: Arc<str>,
    endpoint_label: Arc<str>,
    opened: AtomicU64,
    ended: AtomicU64,
}

impl TunnelMetrics {
    /// Counts a WebSocket as opened. Takes one uncontended lock; all that follows is relaxed atomic adds.
    pub fn open(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>) -> Self {
        // The pair keeps a weak count on its endpoint, so no other endpoint can get this address as long as it exists.
        let key = Arc::as_ptr(endpoint).addr();
        let pair = route.sockets().pair(key, || Pair::new(endpoint));
        pair.opened.fetch_add(1, Relaxed);
        Self { route: Arc::clone(route), pair, _endpoint: Arc::clone(endpoint) }
    }

    /// Adds `count` messages or control frames; a tunnel brings what it counted in plain integers.
    pub fn add_messages(&self, direction: Direction, opcode: Opcode, count: u64) {
        self.route.sockets().add_messages(direction, opcode, count);
    }

    /// Adds `count` bytes on the wire, frame headers included.
    pub fn add_bytes(&self, direction: Direction, count: u64) {
        self.route.sockets().add_bytes(direction, count);
    }

    /// Notes a pong to the gateway's own ping, `after` it was sent.
    pub fn ping_rtt(&self, side: Side, after: Duration) {
        self.route.sockets().round_trip(side, after.as_secs_f64());
    }

    /// Counts an endpoint that was lost, and what became of the client.
    pub fn reconnected(&self, result: Reconnected) {
        self.route.sockets().reconnected(&self.pair.upstream_label, result);
    }

    /// Counts the end: the close code (`None` when there was no Close frame), who caused it, and a short constant reason.
    pub fn closed(&self, code: Option<u16>, by: By, reason: &'static str) {
        self.route.sockets().closed(code, by, reason);
    }

    /// Notes at the end how long it lived and how many messages it carried, both directions together.
    pub fn lifetime(&self, lived: Duration, messages: u64) {
        self.route.sockets().lifetime(lived.as_secs_f64(), messages);
    }
}

impl Drop for TunnelMetrics {
    fn drop(&mut self) {
        self.pair.ended.fetch_add(1, Relaxed);
    }
}

impl Pair {
    fn new(endpoint: &Arc<EndpointMetrics>) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            upstream_label: Arc::clone(&endpoint.upstream),
            endpoint_label: Arc::clone(&endpoint.endpoint),
            opened: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// Whether its endpoint is still one of the upstream, or has a WebSocket.
    pub(super) fn lives(&self) -> bool {
        self.endpoint.strong_count() > 0
    }

    pub(super) fn collect(&self, route: &str, scrape: &mut Exposition) {
        let labels = [route, &*self.upstream_label, &*self.endpoint_label];
        // Ended first: one that opens in between is then not missing from the gauge.
        let ended = self.ended.load(Relaxed);
        let opened = self.opened.load(Relaxed);
        scrape.counter(&names::WEBSOCKET_OPENED, &labels, opened as f64);
        scrape.gauge(&names::WEBSOCKET_ACTIVE, &labels, opened.saturating_sub(ended) as f64);
    }
}
