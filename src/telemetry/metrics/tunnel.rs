//! Counting handle of one WebSocket, and the label values of its metrics.

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

            /// The value in metrics and in the access log.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// The direction of a message.
    Direction {
        /// From the client.
        ToBackend = "to_backend",
        /// From the backend.
        ToClient = "to_client",
    }
}

labels! {
    /// The type of a message: the opcode of its first frame (RFC 6455 §5.2).
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
    /// A peer of a WebSocket.
    Side {
        /// The client.
        Client = "client",
        /// The endpoint.
        Backend = "backend",
    }
}

labels! {
    /// The initiator of a WebSocket's end.
    By {
        /// The client closed it or disconnected.
        Client = "client",
        /// The backend closed it or disconnected.
        Backend = "backend",
        /// The gateway closed it: a limit, a drain, a peer without pongs.
        Gateway = "gateway",
    }
}

labels! {
    /// The result of moving a WebSocket after the loss of its endpoint, with `on_endpoint_loss: reconnect`.
    Reconnected {
        /// Another endpoint accepted it.
        Moved = "moved",
        /// No endpoint accepted it in time.
        Failed = "failed",
        /// A partly forwarded message cannot be continued at another endpoint.
        Impossible = "impossible",
    }
}

/// The counting handle of one open WebSocket. Dropping it decrements the gauge.
#[derive(Debug)]
pub struct TunnelMetrics {
    route: Arc<RouteMetrics>,
    pair: Arc<Pair>,
    // Keeps the endpoint's series alive.
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
    /// Counts a WebSocket as opened. Takes one uncontended lock; later counts are relaxed atomic adds.
    pub fn open(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>) -> Self {
        // The pair holds a weak reference to its endpoint, so the address is not reused during the pair's
        // lifetime.
        let key = Arc::as_ptr(endpoint).addr();
        let pair = route.sockets().pair(key, || Pair::new(endpoint));
        pair.opened.fetch_add(1, Relaxed);
        Self { route: Arc::clone(route), pair, _endpoint: Arc::clone(endpoint) }
    }

    /// Adds `count` messages or control frames, which the tunnel has counted in plain integers.
    pub fn add_messages(&self, direction: Direction, opcode: Opcode, count: u64) {
        self.route.sockets().add_messages(direction, opcode, count);
    }

    /// Adds `count` bytes on the wire, frame headers included.
    pub fn add_bytes(&self, direction: Direction, count: u64) {
        self.route.sockets().add_bytes(direction, count);
    }

    /// Observes the time from the gateway's ping to its pong.
    pub fn ping_rtt(&self, side: Side, after: Duration) {
        self.route.sockets().round_trip(side, after.as_secs_f64());
    }

    /// Counts a lost endpoint with the result for the WebSocket.
    pub fn reconnected(&self, result: Reconnected) {
        self.route.sockets().reconnected(&self.pair.upstream_label, result);
    }

    /// Counts the end: the close code (`None` without a Close frame), the initiator, and a short constant
    /// reason.
    pub fn closed(&self, code: Option<u16>, by: By, reason: &'static str) {
        self.route.sockets().closed(code, by, reason);
    }

    /// Observes the lifetime and the messages of both directions, at the end.
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

    /// Whether the endpoint is still part of the upstream or has a WebSocket.
    pub(super) fn lives(&self) -> bool {
        self.endpoint.strong_count() > 0
    }

    pub(super) fn collect(&self, route: &str, scrape: &mut Exposition) {
        let labels = [route, &*self.upstream_label, &*self.endpoint_label];
        // `ended` is read first: a WebSocket opened in between must not make the gauge too small.
        let ended = self.ended.load(Relaxed);
        let opened = self.opened.load(Relaxed);
        scrape.counter(&names::WEBSOCKET_OPENED, &labels, opened as f64);
        scrape.gauge(&names::WEBSOCKET_ACTIVE, &labels, opened.saturating_sub(ended) as f64);
    }
}
