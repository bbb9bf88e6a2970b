//! Start of a tunnel after its handshake, and its log entries until its end. It keeps no snapshot: ten
//! thousand reloads may happen during one WebSocket.

use super::redial::Redialer;
use super::tunnel_log::{CloseLogFields, Origin};
use super::tunnel_permits::TunnelPermits;
use super::tunnel_resources::{ClientResources, TunnelGuards};
use super::websocket_plugins::{FinalLogFields, TunnelPlugins};
use crate::proxy::Gateway;
use crate::proxy::downstream::session::Session;
use crate::proxy::tracing::websocket_span::WebSocketTrace;
use crate::snapshot::Route;
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::{self, Counters, Outcome, Permit, Redial, Tunnel, TunnelIo, TunnelKey};
use crate::upstream::{DrainMoment, Lease, ProxyAddrs};
use crate::websocket::handshake::{Agreement, Extensions, Request};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

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
    /// The key of the client in limits that a fleet shares.
    pub(in crate::proxy) client_key: Option<u128>,
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
    let shared_connection = session.shared_connection();
    let Some((client_side, client_early, listener_permit)) = session.into_tunnel() else { return };
    let TunnelStart { origin, route, lease, permit, switching, .. } = tunnel_start;
    let permits = TunnelPermits { permit, _connection: listener_permit };
    let resources = ClientResources { permits, trace: tunnel_start.trace.clone() };
    let member = gateway.shared.tunnels.join(TunnelKey {
        endpoint: lease.endpoint().token().get(),
        route: Arc::clone(&route.name),
        route_version: route.route_version(),
        generation: tunnel_start.generation,
        listener: Arc::clone(&tunnel_start.listener),
        protocol: None,
        origin: Some(Arc::clone(&origin) as _),
        drain_part: tunnel_start.drain_moment.map(DrainMoment::part),
        connection: shared_connection,
    });
    let counters = Counters::new(TunnelMetrics::open(&route.metrics.route, lease.endpoint().metrics()));
    origin.begin(tunnel_start.handshake, "", &tunnel_start.said);
    let policy = Arc::clone(&route.policy);
    let (client, redial) = match tunnel_start.again {
        None => (Some(resources), None),
        Some(again) => {
            let redialer = Redialer::new(gateway, &origin, &route, resources, again, tunnel_start.listener);
            (None, Some(Box::new(redialer) as Box<dyn Redial>))
        }
    };
    // The tunnel outlives the route's generation: it keeps only the policy and the counters.
    drop(route);
    let tunnel = Tunnel {
        client: client_side,
        backend: tunnel_start.backend,
        client_early,
        backend_early: tunnel_start.backend_early,
        extensions: tunnel_start.extensions,
        policy,
        client_key: tunnel_start.client_key,
        counters,
        member,
        guard: Box::new(TunnelGuards { _lease: lease, client }),
        redial,
        inspector: tunnel_start.plugins.inspector,
        recheck: tunnel_start.plugins.recheck,
    };
    let (said, trace) = (tunnel_start.plugins.final_log_fields, tunnel_start.trace);
    match TunnelEnd::of(origin, said, trace) {
        TunnelEnd::Plain(origin) => {
            tunnel::launch(tunnel, switching, move |outcome| origin.end(outcome, &[]));
        }
        TunnelEnd::Observed(observers) => {
            tunnel::launch(tunnel, switching, move |outcome| observers.end(outcome));
        }
    }
}

/// What hears of the end of a tunnel. Two kinds, so that the task of the common one is not enlarged by the other.
pub(in crate::proxy) enum TunnelEnd {
    /// The log.
    Plain(Arc<Origin>),
    /// The log with the notes of plugins, and the trace.
    Observed(Observers),
}

pub(in crate::proxy) struct Observers {
    origin: Arc<Origin>,
    said: Option<FinalLogFields>,
    trace: Option<Arc<WebSocketTrace>>,
}

impl TunnelEnd {
    pub(in crate::proxy) fn of(
        origin: Arc<Origin>,
        said: Option<FinalLogFields>,
        trace: Option<Arc<WebSocketTrace>>,
    ) -> Self {
        if said.is_none() && trace.is_none() {
            Self::Plain(origin)
        } else {
            Self::Observed(Observers { origin, said, trace })
        }
    }
}

impl Observers {
    pub(in crate::proxy) fn end(&self, outcome: &Outcome) {
        match &self.said {
            Some(said) => self.origin.end(outcome, &said.lock()),
            None => self.origin.end(outcome, &[]),
        }
        if let Some(trace) = &self.trace {
            trace.end(outcome);
        }
    }
}
