//! What one WebSocket counts.

use super::endpoint::EndpointMetrics;
use super::route::RouteMetrics;
use super::websocket_labels::{By, Direction, Opcode, Reconnected, Side};
use super::websockets::Pair;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The counting handle of one living WebSocket. Dropping it takes it off the gauge, however the tunnel ended.
#[derive(Debug)]
pub struct TunnelMetrics {
    route: Arc<RouteMetrics>,
    pair: Arc<Pair>,
    // Held so that the endpoint's series stay while a WebSocket lives there.
    _endpoint: Arc<EndpointMetrics>,
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
