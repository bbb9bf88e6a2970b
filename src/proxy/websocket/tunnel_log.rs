//! Request of a tunnel: its fields for the access log and the admin API, and its log lines.

use crate::proxy::context::Context;
use crate::proxy::request::forwarded::Client;
use crate::proxy::request::received_state::{ClientState, TlsState};
use crate::runtime::base64_bytes;
use crate::telemetry::access_log::{Closed, Entry, Event, FailoverRecord, Flow, Note};
use crate::telemetry::{AccessLog, TraceId};
use crate::tunnel::{Outcome, Side, TunnelOrigin};
use crate::upstream::Endpoint;
use http::{HeaderMap, HeaderValue, header};
use moongate_sdk::{ClientAddress, Tls};
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The request of a tunnel. Kept as long as the tunnel, so it is small: a block of 128 bytes for the allocator, and
/// one for the text.
pub(in crate::proxy) struct Origin {
    /// `None` if neither the access log nor the admin API needs them.
    fields: Option<RequestFields>,
    route: Arc<str>,
    /// The current endpoint; failover changes it.
    endpoint: Mutex<Arc<Endpoint>>,
    pub(in crate::proxy) client: Client,
}

/// The request fields, and the log whose lines have them.
struct RequestFields {
    log: Option<Arc<AccessLog>>,
    /// Concatenated: method, host, path, user agent, referer, request ID, subprotocol, and the bytes of the trace ID.
    text: Box<[u8]>,
    /// The end of each part except the last.
    ends: [u32; 5],
    /// The client's connection; shared, so it costs a pointer.
    tls: Option<Arc<Tls>>,
    /// The request arrived over HTTP/2 (RFC 8441).
    h2: bool,
    /// How many endpoints were tried for the handshake.
    attempts: u8,
    /// The length of the subprotocol.
    subprotocol: u8,
    /// Whether the text ends with a trace ID.
    is_traced: bool,
}

impl RequestFields {
    fn new(
        log: Option<Arc<AccessLog>>,
        head: &RequestHeader,
        request_id: &str,
        subprotocol: &str,
        ctx: &Context,
    ) -> Self {
        let received = &ctx.received;
        let field = |name| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let parts = [
            head.method.as_str().as_bytes(),
            received.authority().as_bytes(),
            received.parts.target.as_deref().unwrap_or(head.raw_path()),
            field(header::USER_AGENT),
            field(header::REFERER),
        ];
        // A longer one is no name.
        let subprotocol_length = u8::try_from(subprotocol.len()).unwrap_or(0);
        let subprotocol = if subprotocol_length == 0 { "" } else { subprotocol };
        let length =
            parts.iter().map(|part| part.len()).sum::<usize>() + request_id.len() + subprotocol.len();
        let trace = ctx.trace.as_ref().map(|trace| trace.id().0);
        let length = length + trace.map_or(0, |trace| trace.len());
        let mut text = Vec::with_capacity(length);
        let ends = parts.map(|part| {
            text.extend_from_slice(part);
            // A head of four gigabytes is refused long before.
            text.len() as u32
        });
        text.extend_from_slice(request_id.as_bytes());
        text.extend_from_slice(subprotocol.as_bytes());
        text.extend_from_slice(trace.as_ref().map_or(&[][..], |trace| trace));
        let (tls, h2) = (received.tls.clone(), received.is_http2());
        Self {
            log,
            text: text.into_boxed_slice(),
            ends,
            tls,
            h2,
            attempts: ctx.attempts.count(),
            subprotocol: subprotocol_length,
            is_traced: trace.is_some(),
        }
    }

    fn part(&self, number: usize) -> &[u8] {
        let request_end = self.words_end() - usize::from(self.subprotocol);
        let end = |number: usize| self.ends.get(number).map_or(request_end, |end| *end as usize);
        &self.text[number.checked_sub(1).map_or(0, end)..end(number)]
    }

    fn subprotocol(&self) -> &str {
        let end = self.words_end();
        std::str::from_utf8(&self.text[end - usize::from(self.subprotocol)..end]).unwrap_or_default()
    }

    /// The end of the text before the trace ID.
    fn words_end(&self) -> usize {
        self.text.len() - if self.is_traced { size_of::<TraceId>() } else { 0 }
    }

    fn trace(&self) -> Option<TraceId> {
        self.text[self.words_end()..].try_into().ok().map(TraceId)
    }

    /// A part that is valid text.
    fn word(&self, number: usize) -> &str {
        std::str::from_utf8(self.part(number)).unwrap_or_default()
    }
}

impl Origin {
    /// Copies the fields of the request and the subprotocol of the response; `None` without an endpoint, which is
    /// excluded after a handshake.
    pub(in crate::proxy) fn of(
        head: &RequestHeader,
        response: &HeaderMap,
        ctx: &Context,
    ) -> Option<Arc<Self>> {
        let (route, lease) = (ctx.route.as_ref()?, ctx.attempts.lease()?);
        let status = status(ctx.received.is_http2());
        let log =
            ctx.snapshot.log.as_ref().filter(|log| route.logged && log.keeps_websocket(&route.name, status));
        let id = ctx.running.known_request_id().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let subprotocol = response.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|name| name.to_str().ok());
        let is_shown = log.is_some() || ctx.snapshot.admin.is_some();
        let fields = || RequestFields::new(log.cloned(), head, id, subprotocol.unwrap_or_default(), ctx);
        Some(Arc::new(Self {
            // A tunnel may live for weeks, so it keeps only what something shows.
            fields: is_shown.then(fields),
            route: Arc::clone(&route.name),
            endpoint: Mutex::new(Arc::clone(lease.endpoint())),
            client: ctx.received.client.clone(),
        }))
    }

    /// Returns whether the fields of the request are kept.
    pub(in crate::proxy) fn is_complete(&self) -> bool {
        self.fields.is_some()
    }

    /// A part of the request's fields; empty if they are not kept.
    fn part(&self, number: usize) -> &[u8] {
        self.fields.as_ref().map_or(&[], |fields| fields.part(number))
    }

    /// The name of its route.
    pub(in crate::proxy) fn route(&self) -> &str {
        &self.route
    }

    /// The current endpoint.
    pub(in crate::proxy) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint.lock())
    }

    /// Logs the loss of the endpoint, and the new endpoint if there is one.
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

    /// Logs the end of a WebSocket, with the notes of plugins.
    pub(in crate::proxy) fn end(&self, outcome: &Outcome, said: &[CloseLogFields]) {
        self.write_end(outcome, "", said);
    }

    /// Logs the end of a connection that was upgraded to this protocol.
    pub(in crate::proxy) fn end_upgraded(&self, outcome: &Outcome, protocol: &str) {
        self.write_end(outcome, protocol, &[]);
    }

    fn write_end(&self, outcome: &Outcome, upgrade: &str, said: &[CloseLogFields]) {
        let has_messages = upgrade.is_empty();
        let flow = |side: Side| Flow {
            messages: has_messages.then_some(outcome.messages[side as usize]),
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
            upgrade,
            duration: outcome.lifetime,
            bytes_sent: from_backend,
            bytes_received: from_client,
            attempts: self.attempts(),
            notes: &CloseLogFields::notes(said),
            ..Entry::default()
        });
    }

    /// Logs the opening of a WebSocket, or of a connection that was upgraded to `upgrade`, with the notes of plugins.
    pub(in crate::proxy) fn begin(&self, handshake: Duration, upgrade: &str, said: &[CloseLogFields]) {
        let attempts = self.attempts();
        let (event, duration, notes) = (Event::Open, handshake, &*CloseLogFields::notes(said));
        self.write(Entry { event, upgrade, duration, attempts, notes, ..Entry::default() });
    }

    /// How many endpoints were tried for the handshake, for the lines that say so.
    fn attempts(&self) -> u32 {
        self.fields.as_ref().map_or(0, |fields| u32::from(fields.attempts))
    }

    /// Writes `entry` with the fields that all lines of the tunnel share.
    fn write(&self, entry: Entry<'_>) {
        let Some(fields) = &self.fields else { return };
        let Some(log) = &fields.log else { return };
        let endpoint = self.endpoint();
        log.write(&Entry {
            client: Some(self.client.address()),
            method: fields.word(0),
            host: fields.part(1),
            path: fields.part(2),
            user_agent: fields.part(3),
            referer: fields.part(4),
            request_id: fields.word(5),
            trace_id: fields.trace(),
            protocol: if fields.h2 { "HTTP/2.0" } else { "HTTP/1.1" },
            tls: fields.tls.as_deref().map(|tls| (tls.version, tls.cipher)),
            status: status(fields.h2),
            route: &self.route,
            upstream: endpoint.upstream(),
            endpoint: endpoint.name(),
            ..entry
        });
    }
}

impl TunnelOrigin for Origin {
    fn client(&self) -> ClientAddress<'_> {
        self.client.address()
    }

    fn endpoint(&self) -> Arc<Endpoint> {
        Self::endpoint(self)
    }

    fn host(&self) -> &[u8] {
        self.part(1)
    }

    fn path(&self) -> &[u8] {
        self.part(2)
    }

    fn user_agent(&self) -> &[u8] {
        self.part(3)
    }

    fn referer(&self) -> &[u8] {
        self.part(4)
    }

    fn subprotocol(&self) -> &str {
        self.fields.as_ref().map_or("", RequestFields::subprotocol)
    }

    fn is_complete(&self) -> bool {
        Self::is_complete(self)
    }

    fn state(&self) -> serde_json::Value {
        let endpoint = self.endpoint();
        let state = OriginState {
            upstream: endpoint.upstream().to_owned(),
            endpoint: endpoint.name().to_owned(),
            uid: endpoint.uid().map(str::to_owned),
            client: ClientState::of(&self.client),
            fields: self.fields.as_ref().map(|fields| FieldsState {
                is_logged: fields.log.is_some(),
                text: fields.text.to_vec(),
                ends: fields.ends,
                is_http2: fields.h2,
                attempts: fields.attempts,
                subprotocol: fields.subprotocol,
                is_traced: fields.is_traced,
                tls: fields.tls.as_deref().map(TlsState::of),
            }),
        };
        // Numbers, text and bytes are always JSON.
        serde_json::to_value(state).unwrap_or_default()
    }
}

/// The request of a tunnel, for another process that continues the tunnel.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::proxy) struct OriginState {
    pub(in crate::proxy) upstream: String,
    pub(in crate::proxy) endpoint: String,
    /// The identifier of the endpoint, if its source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::proxy) uid: Option<String>,
    #[serde(flatten)]
    client: ClientState,
    fields: Option<FieldsState>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct FieldsState {
    is_logged: bool,
    #[serde(with = "base64_bytes")]
    text: Vec<u8>,
    ends: [u32; 5],
    is_http2: bool,
    attempts: u8,
    subprotocol: u8,
    is_traced: bool,
    tls: Option<TlsState>,
}

impl OriginState {
    /// The client.
    pub(in crate::proxy) fn client(&self) -> Client {
        self.client.restore()
    }

    /// The request of a tunnel of this route at this endpoint. Its lines go to `log`, if they went to one.
    pub(in crate::proxy) fn restore(
        self,
        route: &Arc<str>,
        endpoint: &Arc<Endpoint>,
        log: Option<&Arc<AccessLog>>,
    ) -> Arc<Origin> {
        let client = self.client();
        let fields = self.fields.and_then(|fields| fields.restore(log));
        Arc::new(Origin {
            fields,
            route: Arc::clone(route),
            endpoint: Mutex::new(Arc::clone(endpoint)),
            client,
        })
    }
}

impl FieldsState {
    /// `None` if the text does not have these parts.
    fn restore(self, log: Option<&Arc<AccessLog>>) -> Option<RequestFields> {
        let Self { is_logged, text, ends, is_http2, attempts, subprotocol, is_traced, tls } = self;
        let trailer = usize::from(subprotocol) + if is_traced { size_of::<TraceId>() } else { 0 };
        let is_ordered = ends.is_sorted();
        let fits = ends.last().is_some_and(|last| *last as usize + trailer <= text.len());
        (is_ordered && fits).then(|| RequestFields {
            log: log.filter(|_| is_logged).cloned(),
            text: text.into(),
            ends,
            tls: tls.map(|tls| Arc::new(tls.restore())),
            h2: is_http2,
            attempts,
            subprotocol,
            is_traced,
        })
    }
}

/// The status of a WebSocket's handshake (RFC 8441 §5).
fn status(h2: bool) -> u16 {
    if h2 { 200 } else { 101 }
}

/// A note of a plugin.
pub(in crate::proxy) struct CloseLogFields {
    plugin: String,
    key: String,
    value: String,
}

impl CloseLogFields {
    /// Copies the notes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tunnel_keeps_of_its_request_fits_the_allocator_s_block_of_128_bytes() {
        // 128 bytes, minus the two counts of the `Arc`.
        assert!(size_of::<Origin>() <= 112, "{}", size_of::<Origin>());
    }
}
