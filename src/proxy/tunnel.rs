//! From a finished handshake to a tunnel's last log line: the task that carries it, and what it keeps
//! of the request. It keeps no snapshot: ten thousand reloads may pass under one living socket.

use super::Gateway;
use super::context::Context;
use crate::snapshot::Route;
use crate::telemetry::AccessLog;
use crate::telemetry::access::{Closed, Entry, Event, Flow};
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::handshake::Extensions;
use crate::tunnel::{self, Counters, Leg, Outcome, Permit, Side, Tunnel};
use crate::upstream::{Endpoint, Lease};
use bytes::Bytes;
use http::header;
use pingora::http::RequestHeader;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a tunnel's log lines need of its request.
pub(super) struct Origin {
    log: Option<Arc<AccessLog>>,
    client: IpAddr,
    method: String,
    host: Vec<u8>,
    path: Vec<u8>,
    user_agent: Vec<u8>,
    referer: Vec<u8>,
    request_id: String,
    route: Arc<str>,
    upstream: Arc<str>,
    endpoint: Arc<Endpoint>,
    attempts: u8,
    handshake: Duration,
}

impl Origin {
    /// Keeps it, while the request is still there; `None` when an endpoint is missing, which is
    /// excluded behind a handshake.
    pub(super) fn of(head: &RequestHeader, ctx: &Context) -> Option<Box<Self>> {
        let (route, cluster, lease) = (ctx.route.as_ref()?, ctx.cluster.as_ref()?, ctx.lease.as_ref()?);
        let log = ctx.snapshot.as_ref().and_then(|snapshot| snapshot.log.clone()).filter(|_| route.logged);
        // Without a log nobody asks for these, and a tunnel may live for weeks.
        let kept = |value: &[u8]| if log.is_some() { value.to_vec() } else { Vec::new() };
        let field = |name| head.headers.get(name).map_or(Vec::new(), |value| kept(value.as_bytes()));
        let id = ctx.running.known_request_id().and_then(|id| id.to_str().ok()).unwrap_or_default();
        Some(Box::new(Self {
            client: ctx.client,
            method: head.method.as_str().to_owned(),
            host: field(header::HOST),
            path: kept(head.raw_path()),
            user_agent: field(header::USER_AGENT),
            referer: field(header::REFERER),
            request_id: id.to_owned(),
            route: Arc::clone(&route.name),
            upstream: Arc::clone(cluster.name()),
            endpoint: Arc::clone(lease.endpoint()),
            attempts: ctx.attempts,
            handshake: ctx.started.elapsed(),
            log,
        }))
    }

    /// Counts and logs the end.
    fn end(&self, outcome: &Outcome, counters: &Counters) {
        counters.ended(outcome);
        let flow = |side: Side| Flow {
            messages: outcome.messages[side as usize],
            bytes: outcome.bytes[side as usize],
        };
        let closed = Closed {
            code: outcome.close_code(),
            reason: outcome.reason.token(),
            by: outcome.by.into(),
            to_backend: flow(Side::Client),
            to_client: flow(Side::Backend),
            lifetime: outcome.lifetime,
            client_rtt: outcome.ping_rtt[Side::Client as usize],
            backend_rtt: outcome.ping_rtt[Side::Backend as usize],
        };
        self.write(Event::Close(closed), outcome.lifetime, Some(outcome));
    }

    fn write(&self, event: Event<'_>, duration: Duration, outcome: Option<&Outcome>) {
        let Some(log) = &self.log else { return };
        let [from_client, from_backend] = outcome.map_or([0; 2], |outcome| outcome.bytes);
        log.write(&Entry {
            event,
            client: Some(self.client),
            method: &self.method,
            host: &self.host,
            path: &self.path,
            protocol: "HTTP/1.1",
            status: 101,
            bytes_sent: from_backend,
            bytes_received: from_client,
            duration,
            route: &self.route,
            upstream: &self.upstream,
            endpoint: self.endpoint.name(),
            attempts: u32::from(self.attempts),
            request_id: &self.request_id,
            user_agent: &self.user_agent,
            referer: &self.referer,
            error: None,
        });
    }
}

/// What a tunnel holds while it lives, given back whichever way it ends.
struct Held {
    _lease: Lease,
    _permit: Permit,
}

/// Both sides after the handshake, and what belongs to the tunnel from here on.
pub(super) struct Beginning {
    pub(super) origin: Box<Origin>,
    pub(super) route: Arc<Route>,
    pub(super) lease: Lease,
    pub(super) permit: Permit,
    pub(super) client: Leg,
    pub(super) client_early: Bytes,
    pub(super) backend: Leg,
    pub(super) backend_early: Bytes,
    pub(super) extensions: Extensions,
    /// The client's 101.
    pub(super) switching: Vec<u8>,
}

/// Starts the tunnel.
pub(super) fn spawn(gateway: &Gateway, beginning: Beginning) {
    let Beginning { origin, route, lease, permit, client, switching, .. } = beginning;
    let member = gateway.shared.tunnels.join(lease.endpoint().token().get(), Arc::clone(&route.name));
    let counters = Arc::new(Counters::new(TunnelMetrics::open(&route.metrics, lease.endpoint().metrics())));
    origin.write(Event::Open, origin.handshake, None);
    let policy = Arc::clone(&route.policy);
    // The tunnel outlives the route's generation: of the route it keeps the policy and the counters.
    drop(route);
    let tunnel = Tunnel {
        client,
        backend: beginning.backend,
        client_early: beginning.client_early,
        backend_early: beginning.backend_early,
        extensions: beginning.extensions,
        policy,
        counters: Arc::clone(&counters),
        member: Some(member),
        guard: Box::new(Held { _lease: lease, _permit: permit }),
    };
    tunnel::launch(tunnel, switching, move |outcome| origin.end(outcome, &counters));
}
