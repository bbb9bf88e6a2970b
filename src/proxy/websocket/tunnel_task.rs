//! Start of a tunnel after its handshake, and its log entries until its end. It keeps no snapshot: ten
//! thousand reloads may happen during one WebSocket.

use super::redial::Redialer;
use super::tunnel_log::{CloseLogFields, Origin};
use super::tunnel_permits::TunnelPermits;
use super::websocket_plugins::TunnelPlugins;
use crate::proxy::Gateway;
use crate::proxy::downstream::session::Session;
use crate::proxy::tracing::websocket_span::WebSocketTrace;
use crate::snapshot::Route;
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::{self, Counters, Permit, Redial, Tunnel, TunnelIo, TunnelKey};
use crate::upstream::{DrainMoment, KeySource, Lease, ProxyAddrs};
use crate::websocket::handshake::{Agreement, Extensions, Request};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Resources of an open tunnel, released however it ends. With failover the redialer holds the client's
/// permits, since they outlive the lease.
pub(super) struct TunnelGuards {
    pub(super) _lease: Lease,
    pub(super) _place: Option<TunnelPermits>,
}

/// The parts of a tunnel after its handshake, without the client's side.
pub(in crate::proxy) struct TunnelStart {
    pub(in crate::proxy) origin: Arc<Origin>,
    pub(in crate::proxy) said: Vec<CloseLogFields>,
    pub(in crate::proxy) route: Arc<Route>,
    /// The number of the configuration that served the handshake.
    pub(in crate::proxy) generation: u64,
    pub(in crate::proxy) lease: Lease,
    pub(in crate::proxy) permit: Permit,
    pub(in crate::proxy) backend: TunnelIo,
    pub(in crate::proxy) backend_early: Bytes,
    pub(in crate::proxy) extensions: Extensions,
    /// The name of the client's listener.
    pub(in crate::proxy) listener: Arc<str>,
    /// The request for another endpoint, and what it must agree to.
    pub(in crate::proxy) again: Option<(Request, Agreement, ProxyAddrs)>,
    /// The client's 101.
    pub(in crate::proxy) switching: Vec<u8>,
    /// The time from the request header to the backend's response.
    pub(in crate::proxy) handshake: Duration,
    /// When its session leaves in a drain.
    pub(in crate::proxy) drain_moment: Option<DrainMoment>,
    /// The plugins of the open WebSocket.
    pub(in crate::proxy) plugins: TunnelPlugins,
    /// Its trace, if it is sampled.
    pub(in crate::proxy) trace: Option<Arc<WebSocketTrace>>,
}

/// Starts the tunnel on the client's connection or stream. A stream that has ended meanwhile gets none.
pub(in crate::proxy) fn spawn(gateway: &Gateway, tunnel_start: TunnelStart, session: Session) {
    let Some((client, client_early, listener_permit)) = session.into_tunnel() else { return };
    let TunnelStart { origin, route, lease, permit, switching, .. } = tunnel_start;
    let place = TunnelPermits { _permit: permit, _connection: listener_permit };
    let member = gateway.shared.tunnels.join(TunnelKey {
        endpoint: lease.endpoint().token().get(),
        route: Arc::clone(&route.name),
        route_version: route.route_version(),
        generation: tunnel_start.generation,
        listener: Arc::clone(&tunnel_start.listener),
        origin: Some(Arc::clone(&origin) as _),
        drain_part: tunnel_start.drain_moment.map(DrainMoment::part),
    });
    let counters = Counters::new(TunnelMetrics::open(&route.metrics.route, lease.endpoint().metrics()));
    origin.begin(tunnel_start.handshake, &tunnel_start.said);
    let policy = Arc::clone(&route.policy);
    // No other process has the trace, the notes of plugins, or the hash of a client's key.
    let is_keyed = policy.client_key().is_some_and(|key| !matches!(key, KeySource::ClientIp));
    let is_pinned =
        is_keyed || tunnel_start.trace.is_some() || tunnel_start.plugins.final_log_fields.is_some();
    let (place, redial) = match tunnel_start.again {
        None => (Some(place), None),
        Some(again) => {
            let trace = tunnel_start.trace.clone();
            let redialer =
                Redialer::new(gateway, &origin, &route, place, again, tunnel_start.listener, trace);
            (None, Some(Box::new(redialer) as Box<dyn Redial>))
        }
    };
    // The tunnel outlives the route's generation: it keeps only the policy and the counters.
    drop(route);
    let tunnel = Tunnel {
        client,
        backend: tunnel_start.backend,
        client_early,
        backend_early: tunnel_start.backend_early,
        extensions: tunnel_start.extensions,
        policy,
        counters,
        member,
        guard: Box::new(TunnelGuards { _lease: lease, _place: place }),
        redial,
        inspector: tunnel_start.plugins.inspector,
        recheck: tunnel_start.plugins.recheck,
        is_pinned,
    };
    // Two kinds of tasks, so that the common one is not enlarged by the other.
    match (tunnel_start.plugins.final_log_fields, tunnel_start.trace) {
        (None, None) => tunnel::launch(tunnel, switching, move |outcome| origin.end(outcome, &[])),
        (said, trace) => tunnel::launch(tunnel, switching, move |outcome| {
            match said {
                Some(said) => origin.end(outcome, &said.lock()),
                None => origin.end(outcome, &[]),
            }
            if let Some(trace) = trace {
                trace.end(outcome);
            }
        }),
    }
}
