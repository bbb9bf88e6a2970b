//! Counting handle of one upgraded connection other than a WebSocket.

use super::endpoint::EndpointMetrics;
use super::route::RouteMetrics;
use super::upgrades::UpgradePlace;
use super::websocket_labels::{Direction, InitiatorLabel};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The counting handle of one open connection. Its drop decrements the gauge, however the connection ended.
#[derive(Debug)]
pub struct UpgradeMetrics {
    route: Arc<RouteMetrics>,
    place: Arc<UpgradePlace>,
    // Keeps the endpoint's series alive.
    _endpoint: Arc<EndpointMetrics>,
}

impl UpgradeMetrics {
    /// Counts a connection as opened.
    pub fn open(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>, protocol: &Arc<str>) -> Self {
        let handle = Self::of(route, endpoint, protocol);
        handle.place.opened.fetch_add(1, Relaxed);
        handle
    }

    /// Counts a connection as open that another process has opened.
    pub fn adopt(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>, protocol: &Arc<str>) -> Self {
        let handle = Self::of(route, endpoint, protocol);
        handle.place.adopted.fetch_add(1, Relaxed);
        handle
    }

    fn of(route: &Arc<RouteMetrics>, endpoint: &Arc<EndpointMetrics>, protocol: &Arc<str>) -> Self {
        let place = route.upgrades().place(endpoint, protocol);
        Self { route: Arc::clone(route), place, _endpoint: Arc::clone(endpoint) }
    }

    /// Adds `count` relayed bytes.
    pub fn add_bytes(&self, direction: Direction, count: u64) {
        self.place.bytes[direction as usize].fetch_add(count, Relaxed);
    }

    /// Counts the end: the initiator, and a short constant reason.
    pub fn closed(&self, by: InitiatorLabel, reason: &'static str) {
        self.route.upgrades().closed(&self.place.protocol, by, reason);
    }

    /// Observes the lifetime, at the end.
    pub fn lifetime(&self, lived: Duration) {
        self.route.upgrades().lifetime(lived.as_secs_f64());
    }
}

impl Drop for UpgradeMetrics {
    fn drop(&mut self) {
        self.place.ended.fetch_add(1, Relaxed);
    }
}
