//! Start of a raw relay after its 101, and its log entries until its end. It keeps no snapshot.

use crate::proxy::Gateway;
use crate::proxy::downstream::session::Session;
use crate::proxy::tracing::websocket_span::WebSocketTrace;
use crate::proxy::websocket::tunnel_log::{CloseLogFields, Origin};
use crate::proxy::websocket::tunnel_permits::TunnelPermits;
use crate::proxy::websocket::tunnel_resources::{ClientResources, TunnelGuards};
use crate::snapshot::Route;
use crate::telemetry::metrics::UpgradeMetrics;
use crate::tunnel::{self, Outcome, Permit, RawCounters, RawTunnel, Recheck, TunnelIo, TunnelKey};
use crate::upstream::{DrainMoment, Lease};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The parts of a raw relay after the 101, without the client's side.
pub(in crate::proxy) struct RawTunnelStart {
    /// The protocol, as the route lists it.
    pub(in crate::proxy) protocol: Arc<str>,
    pub(in crate::proxy) origin: Arc<Origin>,
    /// The notes of plugins.
    pub(in crate::proxy) notes: Vec<CloseLogFields>,
    pub(in crate::proxy) route: Arc<Route>,
    /// The number of the configuration that served the request.
    pub(in crate::proxy) generation: u64,
    pub(in crate::proxy) lease: Lease,
    pub(in crate::proxy) permit: Permit,
    pub(in crate::proxy) backend: TunnelIo,
    /// Bytes that the backend sent after its 101.
    pub(in crate::proxy) backend_early: Bytes,
    /// The name of the client's listener.
    pub(in crate::proxy) listener: Arc<str>,
    /// The client's 101.
    pub(in crate::proxy) switching: Bytes,
    /// The time from the request header to the backend's response.
    pub(in crate::proxy) handshake: Duration,
    /// When its session leaves in a drain.
    pub(in crate::proxy) drain_moment: Option<DrainMoment>,
    pub(in crate::proxy) recheck: Option<Arc<dyn Recheck>>,
    /// Its trace, if it is sampled.
    pub(in crate::proxy) trace: Option<Arc<WebSocketTrace>>,
}

/// Starts the relay on the client's connection.
pub(in crate::proxy) fn spawn(gateway: &Gateway, start: RawTunnelStart, session: Session) {
    let Some((client, client_early, listener_permit)) = session.into_tunnel() else { return };
    let RawTunnelStart { protocol, origin, route, lease, trace, .. } = start;
    let permits = TunnelPermits { permit: start.permit, _connection: listener_permit };
    let resources = ClientResources { permits, trace: trace.clone() };
    let member = gateway.shared.tunnels.join(TunnelKey {
        endpoint: lease.endpoint().token().get(),
        route: Arc::clone(&route.name),
        route_version: route.route_version(),
        generation: start.generation,
        listener: start.listener,
        protocol: Some(Arc::clone(&protocol)),
        origin: Some(Arc::clone(&origin) as _),
        drain_part: start.drain_moment.map(DrainMoment::part),
        connection: None,
    });
    let metrics = UpgradeMetrics::open(&route.metrics.route, lease.endpoint().metrics(), &protocol);
    origin.begin(start.handshake, &protocol, &start.notes);
    let tunnel = RawTunnel {
        client,
        backend: start.backend,
        preface: start.switching,
        client_early,
        backend_early: start.backend_early,
        limits: route.policy.raw_limits(),
        counters: RawCounters::new(metrics),
        member,
        guard: Box::new(TunnelGuards { _lease: lease, client: Some(resources) }),
        recheck: start.recheck,
    };
    let end = RawTunnelEnd { protocol, origin, trace };
    tunnel::launch_raw(tunnel, move |outcome| end.report(outcome));
}

/// What hears of the end of a raw relay.
pub(in crate::proxy) struct RawTunnelEnd {
    pub(in crate::proxy) protocol: Arc<str>,
    pub(in crate::proxy) origin: Arc<Origin>,
    pub(in crate::proxy) trace: Option<Arc<WebSocketTrace>>,
}

impl RawTunnelEnd {
    pub(in crate::proxy) fn report(&self, outcome: &Outcome) {
        self.origin.end_upgraded(outcome, &self.protocol);
        if let Some(trace) = &self.trace {
            trace.end(outcome);
        }
    }
}
