//! Start of a tunnel after its handshake, and its log entries until its end. It keeps no snapshot: ten
//! thousand reloads may happen during one WebSocket.

use super::redial::Redialer;
use super::websocket_plugins::TunnelPlugins;
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::request::forwarded::Client;
use crate::snapshot::Route;
use crate::telemetry::AccessLog;
use crate::telemetry::access_log::{Closed, Entry, Event, FailoverRecord, Flow, Note};
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::{self, Counters, Outcome, Permit, Redial, Side, Tunnel, TunnelIo, TunnelKey};
use crate::upstream::{DrainMoment, Endpoint, Lease, ProxyAddrs};
use crate::websocket::handshake::{Agreement, Extensions, Request};
use bytes::Bytes;
use http::{HeaderValue, header};
use moongate_sdk::Tls;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The parts of a request that its tunnel's log entries need. It lives as long as its tunnel and is therefore
/// small: one block of 128 bytes, and one for the text.
pub(in crate::proxy) struct Origin {
    lines: Option<Lines>,
    route: Arc<str>,
    /// The current endpoint; failover changes it.
    endpoint: Mutex<Arc<Endpoint>>,
    pub(in crate::proxy) client: Client,
}

/// The log, and the common fields of its entries.
struct Lines {
    log: Arc<AccessLog>,
    /// Concatenated: method, host, path, user agent, referer, request ID.
    text: Box<[u8]>,
    /// The end of each part except the last.
    ends: [u32; 5],
    /// The TLS of the client's connection; shared, so it costs a pointer.
    tls: Option<Arc<Tls>>,
    /// It was received over HTTP/2 (RFC 8441).
    h2: bool,
    /// The number of attempts for the handshake.
    attempts: u8,
}

impl Lines {
    fn new(log: Arc<AccessLog>, head: &RequestHeader, request_id: &str, ctx: &Context) -> Self {
        let received = &ctx.received;
        let field = |name| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let parts = [
            head.method.as_str().as_bytes(),
            received.authority().as_bytes(),
            received.sent_target.as_deref().unwrap_or(head.raw_path()),
            field(header::USER_AGENT),
            field(header::REFERER),
        ];
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + request_id.len();
        let mut text = Vec::with_capacity(length);
        let ends = parts.map(|part| {
            text.extend_from_slice(part);
            // A header of four gigabytes was rejected long before.
            text.len() as u32
        });
        text.extend_from_slice(request_id.as_bytes());
        let (tls, h2) = (received.tls.clone(), received.is_http2());
        Self { log, text: text.into_boxed_slice(), ends, tls, h2, attempts: ctx.attempts }
    }

    fn part(&self, number: usize) -> &[u8] {
        let end = |number: usize| self.ends.get(number).map_or(self.text.len(), |end| *end as usize);
        &self.text[number.checked_sub(1).map_or(0, end)..end(number)]
    }

    /// A part that was text originally.
    fn word(&self, number: usize) -> &str {
        std::str::from_utf8(self.part(number)).unwrap_or_default()
    }
}

impl Origin {
    /// Copies the parts while the request exists; `None` without an endpoint, which is excluded after a
    /// handshake.
    pub(in crate::proxy) fn of(head: &RequestHeader, ctx: &Context) -> Option<Arc<Self>> {
        let (route, lease) = (ctx.route.as_ref()?, ctx.lease.as_ref()?);
        let log = ctx.snapshot.as_ref().and_then(|snapshot| snapshot.log.clone()).filter(|_| route.logged);
        let id = ctx.running.known_request_id().and_then(|id| id.to_str().ok()).unwrap_or_default();
        Some(Arc::new(Self {
            // Without a log these are not needed, and a tunnel may live for weeks.
            lines: log.map(|log| Lines::new(log, head, id, ctx)),
            route: Arc::clone(&route.name),
            endpoint: Mutex::new(Arc::clone(lease.endpoint())),
            client: ctx.received.client.clone(),
        }))
    }

    /// The name of its route.
    pub(in crate::proxy) fn route(&self) -> &str {
        &self.route
    }

    /// The current endpoint.
    pub(in crate::proxy) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint.lock())
    }

    /// Logs that the endpoint was lost, and the new one, if any.
    pub(in crate::proxy) fn moved(
        &self,
        to: Option<&Arc<Endpoint>>,
        reason: &str,
        attempts: u32,
        took: Duration,
    ) {
        let from = self.endpoint();
        if let Some(to) = to {
            *self.endpoint.lock() = Arc::clone(to);
        }
        let event = Event::Reconnect(FailoverRecord { from: from.name(), reason });
        let error = to.is_none().then_some("reconnect_failed");
        self.write(Entry { event, duration: took, attempts, error, ..Entry::default() });
    }

    /// Logs the end, with the plugins' fields.
    fn end(&self, outcome: &Outcome, said: &[Said]) {
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
        let [from_client, from_backend] = outcome.bytes;
        self.write(Entry {
            event: Event::Close(closed),
            duration: outcome.lifetime,
            bytes_sent: from_backend,
            bytes_received: from_client,
            attempts: self.attempts(),
            notes: &Said::notes(said),
            ..Entry::default()
        });
    }

    /// Logs the opening, with the plugins' fields.
    fn begin(&self, handshake: Duration, said: &[Said]) {
        let attempts = self.attempts();
        let (event, duration, notes) = (Event::Open, handshake, &*Said::notes(said));
        self.write(Entry { event, duration, attempts, notes, ..Entry::default() });
    }

    /// The number of attempts for the handshake, for the entries that contain it.
    fn attempts(&self) -> u32 {
        self.lines.as_ref().map_or(0, |lines| u32::from(lines.attempts))
    }

    /// Writes `entry` with the common fields of the tunnel.
    fn write(&self, entry: Entry<'_>) {
        let Some(lines) = &self.lines else { return };
        let endpoint = self.endpoint();
        lines.log.write(&Entry {
            client: Some(self.client.address()),
            method: lines.word(0),
            host: lines.part(1),
            path: lines.part(2),
            user_agent: lines.part(3),
            referer: lines.part(4),
            request_id: lines.word(5),
            protocol: if lines.h2 { "HTTP/2.0" } else { "HTTP/1.1" },
            tls: lines.tls.as_deref().map(|tls| (tls.version, tls.cipher)),
            status: if lines.h2 { 200 } else { 101 },
            route: &self.route,
            upstream: endpoint.upstream(),
            endpoint: endpoint.name(),
            ..entry
        });
    }
}

/// Resources of an open tunnel, released however it ends. With failover the redialer holds the client's
/// permits, since they outlive the lease.
struct TunnelGuards {
    _lease: Lease,
    _place: Option<ClientPlace>,
}

/// The client's permits during its WebSocket.
pub(in crate::proxy) struct ClientPlace {
    /// Of the route's limits.
    pub(in crate::proxy) _permit: Permit,
    /// Of the listener's limit, with HTTP/1.1: an HTTP/2 stream counts with its connection.
    pub(in crate::proxy) _room: Option<OwnedSemaphorePermit>,
}

/// A log field of a plugin.
pub(in crate::proxy) struct Said {
    plugin: String,
    key: String,
    value: String,
}

impl Said {
    /// Converts all of them.
    pub(in crate::proxy) fn all(notes: &[Note<'_>]) -> Vec<Self> {
        let said = |note: &Note<'_>| Self {
            plugin: note.plugin.to_owned(),
            key: note.key.to_owned(),
            value: note.value.to_owned(),
        };
        notes.iter().map(said).collect()
    }

    fn notes(said: &[Self]) -> Vec<Note<'_>> {
        said.iter().map(|said| Note { plugin: &said.plugin, key: &said.key, value: &said.value }).collect()
    }
}

/// Both sides after the handshake, and the tunnel's other parts.
pub(in crate::proxy) struct Beginning {
    pub(in crate::proxy) origin: Arc<Origin>,
    pub(in crate::proxy) said: Vec<Said>,
    pub(in crate::proxy) route: Arc<Route>,
    pub(in crate::proxy) lease: Lease,
    pub(in crate::proxy) place: ClientPlace,
    pub(in crate::proxy) client: TunnelIo,
    pub(in crate::proxy) client_early: Bytes,
    pub(in crate::proxy) backend: TunnelIo,
    pub(in crate::proxy) backend_early: Bytes,
    pub(in crate::proxy) extensions: Extensions,
    /// The index of the client's listener.
    pub(in crate::proxy) listener: u16,
    /// The request for another endpoint, and what it must agree to.
    pub(in crate::proxy) again: Option<(Request, Agreement, ProxyAddrs)>,
    /// The client's 101.
    pub(in crate::proxy) switching: Vec<u8>,
    /// The time from the request header to the backend's response.
    pub(in crate::proxy) handshake: Duration,
    /// When its session leaves in a drain.
    pub(in crate::proxy) drain_moment: Option<DrainMoment>,
    /// The plugins of the open WebSocket.
    pub(in crate::proxy) living: TunnelPlugins,
}

/// Starts the tunnel.
pub(in crate::proxy) fn spawn(gateway: &Gateway, beginning: Beginning) {
    let Beginning { origin, route, lease, place, client, switching, .. } = beginning;
    let member = gateway.shared.tunnels.join(TunnelKey {
        endpoint: lease.endpoint().token().get(),
        route: Arc::clone(&route.name),
        edition: route.edition(),
        drain_part: beginning.drain_moment.map(DrainMoment::part),
    });
    let counters = Counters::new(TunnelMetrics::open(&route.metrics, lease.endpoint().metrics()));
    origin.begin(beginning.handshake, &beginning.said);
    let policy = Arc::clone(&route.policy);
    let (place, redial) = match beginning.again {
        None => (Some(place), None),
        Some(again) => {
            let redialer = Redialer::new(gateway, &origin, &route, place, again, beginning.listener);
            (None, Some(Box::new(redialer) as Box<dyn Redial>))
        }
    };
    // The tunnel outlives the route's generation: it keeps only the policy and the counters.
    drop(route);
    let tunnel = Tunnel {
        client,
        backend: beginning.backend,
        client_early: beginning.client_early,
        backend_early: beginning.backend_early,
        extensions: beginning.extensions,
        policy,
        counters,
        member: Some(member),
        guard: Box::new(TunnelGuards { _lease: lease, _place: place }),
        redial,
        inspector: beginning.living.inspector,
        recheck: beginning.living.recheck,
    };
    // Two kinds of tasks, so that the common one is not enlarged by the other.
    match beginning.living.last_words {
        None => tunnel::launch(tunnel, switching, move |outcome| origin.end(outcome, &[])),
        Some(said) => {
            tunnel::launch(tunnel, switching, move |outcome| origin.end(outcome, &said.lock()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tunnel_keeps_of_its_request_fits_the_allocator_s_block_of_128_bytes() {
        // After the two counts of its `Arc`.
        assert!(size_of::<Origin>() <= 112, "{}", size_of::<Origin>());
    }
}
