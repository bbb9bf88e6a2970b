//! Counting handle of one WebSocket, and the label values of its metrics.

use super::endpoint::EndpointMetrics;
use super::route::RouteMetrics;
use super::websocket_labels::{Direction, InitiatorLabel, Opcode, Reconnected, Side};
use super::websockets::Pair;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The counting handle of one open WebSocket. Its drop decrements the gauge, however the tunnel ended.
#[derive(Debug)]
pub struct TunnelMetrics {
    route: Arc<RouteMetrics>,
    pair: Arc<Pair>,
    // Keeps the endpoint's series alive.
    _endpoint: Arc<EndpointMetrics>,
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

    /// Counts a WebSocket as open that another process has opened.
    pub fn adopt(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>) -> Self {
        let key = Arc::as_ptr(endpoint).addr();
        let pair = route.sockets().pair(key, || Pair::new(endpoint));
        pair.adopted.fetch_add(1, Relaxed);
        Self { route: Arc::clone(route), pair, _endpoint: Arc::clone(endpoint) }
    }

    /// Adds `count` messages or control frames, which the tunnel has counted in plain integers.
    pub fn add_messages(&self, direction: Direction, opcode: Opcode, count: u64) {
        self.pair.traffic.add_messages(direction, opcode, count);
    }

    /// Adds `count` bytes on the wire, frame headers included.
    pub fn add_bytes(&self, direction: Direction, count: u64) {
        self.pair.traffic.add_bytes(direction, count);
    }

    /// Observes the time from the gateway's ping to its pong.
    pub fn ping_rtt(&self, side: Side, after: Duration) {
        self.route.sockets().round_trip(side, after.as_secs_f64());
        self.pair.round_trip(side, after);
    }

    /// Counts a lost endpoint with the result for the WebSocket.
    pub fn reconnected(&self, result: Reconnected) {
        self.route.sockets().reconnected(&self.pair.upstream_label, result);
    }

    /// Counts the end: the close code (`None` without a Close frame), the initiator, and a short constant
    /// reason.
    pub fn closed(&self, code: Option<u16>, by: InitiatorLabel, reason: &'static str) {
        let code = self.route.sockets().closed(code, by, reason);
        self.pair.closed(code, by);
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
