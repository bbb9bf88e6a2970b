//! Access log lines of a tunnel, and the request fields that they contain.

use crate::proxy::context::Context;
use crate::proxy::request::forwarded::Client;
use crate::telemetry::AccessLog;
use crate::telemetry::access_log::{Closed, Entry, Event, FailoverRecord, Flow, Note};
use crate::tunnel::{Outcome, Side};
use crate::upstream::Endpoint;
use http::{HeaderValue, header};
use moongate_sdk::Tls;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;

/// The request fields for a tunnel's log lines. Kept as long as the tunnel, so it is small:
/// a block of 128 bytes for the allocator, and one for the text.
pub(in crate::proxy) struct Origin {
    lines: Option<Lines>,
    route: Arc<str>,
    /// The current endpoint; failover changes it.
    endpoint: Mutex<Arc<Endpoint>>,
    pub(in crate::proxy) client: Client,
}

/// The log, and the request fields of each line.
struct Lines {
    log: Arc<AccessLog>,
    /// Concatenated: method, host, path, user agent, referer, request ID.
    text: Box<[u8]>,
    /// The end of each part except the last.
    ends: [u32; 5],
    /// The client's connection; shared, so it costs a pointer.
    tls: Option<Arc<Tls>>,
    /// The request arrived over HTTP/2 (RFC 8441).
    h2: bool,
    /// How many endpoints were tried for the handshake.
    attempts: u8,
}

impl Lines {
    fn new(log: Arc<AccessLog>, head: &RequestHeader, request_id: &str, ctx: &Context) -> Self {
        let received = &ctx.received;
        let field = |name| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let parts = [
            head.method.as_str().as_bytes(),
            received.authority().as_bytes(),
            received.parts.target.as_deref().unwrap_or(head.raw_path()),
            field(header::USER_AGENT),
            field(header::REFERER),
        ];
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + request_id.len();
        let mut text = Vec::with_capacity(length);
        let ends = parts.map(|part| {
            text.extend_from_slice(part);
            // A head of four gigabytes is refused long before.
            text.len() as u32
        });
        text.extend_from_slice(request_id.as_bytes());
        let (tls, h2) = (received.tls.clone(), received.is_http2());
        Self { log, text: text.into_boxed_slice(), ends, tls, h2, attempts: ctx.attempts.count() }
    }

    fn part(&self, number: usize) -> &[u8] {
        let end = |number: usize| self.ends.get(number).map_or(self.text.len(), |end| *end as usize);
        &self.text[number.checked_sub(1).map_or(0, end)..end(number)]
    }

    /// A part that is valid text.
    fn word(&self, number: usize) -> &str {
        std::str::from_utf8(self.part(number)).unwrap_or_default()
    }
}

impl Origin {
    /// Copies the fields of the request; `None` without an endpoint, which is
    /// excluded after a handshake.
    pub(in crate::proxy) fn of(head: &RequestHeader, ctx: &Context) -> Option<Arc<Self>> {
        let (route, lease) = (ctx.route.as_ref()?, ctx.attempts.lease()?);
        let log = ctx.snapshot.log.clone().filter(|_| route.logged);
        let id = ctx.running.known_request_id().and_then(|id| id.to_str().ok()).unwrap_or_default();
        Some(Arc::new(Self {
            // Only the log needs these, and a tunnel may live for weeks.
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

    /// Logs the end, with the notes of plugins.
    pub(super) fn end(&self, outcome: &Outcome, said: &[CloseLogFields]) {
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
            notes: &CloseLogFields::notes(said),
            ..Entry::default()
        });
    }

    /// Logs the opening, with the notes of plugins.
    pub(super) fn begin(&self, handshake: Duration, said: &[CloseLogFields]) {
        let attempts = self.attempts();
        let (event, duration, notes) = (Event::Open, handshake, &*CloseLogFields::notes(said));
        self.write(Entry { event, duration, attempts, notes, ..Entry::default() });
    }

    /// How many endpoints were tried for the handshake, for the lines that say so.
    fn attempts(&self) -> u32 {
        self.lines.as_ref().map_or(0, |lines| u32::from(lines.attempts))
    }

    /// Writes `entry` with the fields that all lines of the tunnel share.
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
