//! Content of an access log line, as the request path hands it over; `field` has the names.

use crate::telemetry::TraceId;
use crate::telemetry::metrics::InitiatorLabel;
use moongate_sdk::ClientAddress;
use std::time::Duration;

/// One line: a completed request, or an event of a WebSocket. Fields are borrowed; only the line is copied.
///
/// Bytes from a client are unchanged here. Invalid UTF-8 and control characters are escaped when written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// The event.
    pub event: Event<'a>,
    /// The protocol of an upgraded connection that is no WebSocket; empty otherwise.
    pub upgrade: &'a str,
    /// The client's address according to trusted proxies; none for a Unix socket.
    pub client: Option<ClientAddress<'a>>,
    /// The method as sent.
    pub method: &'a str,
    /// The requested host; empty without one.
    pub host: &'a [u8],
    /// Path and query as sent.
    pub path: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'a str,
    /// TLS version and cipher suite of the client; none without TLS.
    pub tls: Option<(&'a str, &'a str)>,
    /// The status sent to the client; 0 when none was sent.
    pub status: u16,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// The time since the request's header.
    pub duration: Duration,
    /// The route's name; empty without a match.
    pub route: &'a str,
    /// The upstream's name; empty without one.
    pub upstream: &'a str,
    /// The endpoint that responded or was tried last; empty without one.
    pub endpoint: &'a str,
    /// Number of endpoints tried.
    pub attempts: u32,
    /// The request's id.
    pub request_id: &'a str,
    /// The request's trace; none if it is not traced.
    pub(crate) trace_id: Option<TraceId>,
    /// The field `User-Agent`; empty if absent.
    pub user_agent: &'a [u8],
    /// The field `Referer`; empty if absent.
    pub referer: &'a [u8],
    /// The reason token of the error response, or of an incomplete response.
    pub error: Option<&'a str>,
    /// Details of the error; empty if the token is enough.
    pub error_detail: &'a str,
    /// Notes of plugins, grouped by plugin.
    pub notes: &'a [Note<'a>],
}

/// A plugin's addition to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// The note's key.
    pub key: &'a str,
    /// The note's value.
    pub value: &'a str,
}

/// The event of a line.
#[derive(Clone, Copy, Debug, Default)]
pub enum Event<'a> {
    /// A request was completed.
    #[default]
    Request,
    /// A WebSocket, or another upgraded connection, was opened.
    Open,
    /// A WebSocket lost its endpoint; it was moved or closed.
    Reconnect(FailoverRecord<'a>),
    /// A WebSocket, or another upgraded connection, ended.
    Close(Closed<'a>),
}

/// The loss of a WebSocket's endpoint.
#[derive(Clone, Copy, Debug)]
pub struct FailoverRecord<'a> {
    /// The lost endpoint.
    pub from: &'a str,
    /// The reason, as a short constant word.
    pub reason: &'a str,
}

/// The end of a WebSocket, or of another upgraded connection.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'a> {
    /// The code of the Close frame; none without one.
    pub code: Option<u16>,
    /// The reason, as a short constant word.
    pub reason: &'a str,
    /// The initiator of the end.
    pub by: InitiatorLabel,
    /// Traffic from the client.
    pub to_backend: Flow,
    /// Traffic from the backend.
    pub to_client: Flow,
    /// The time from the handshake to the end.
    pub lifetime: Duration,
    /// The last ping round-trip time of the client.
    pub client_rtt: Option<Duration>,
    /// The last ping round-trip time of the backend.
    pub backend_rtt: Option<Duration>,
}

/// The traffic of one direction of a WebSocket, or of another upgraded connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Complete messages, without control frames; none for a protocol without messages.
    pub messages: Option<u64>,
    /// Bytes on the wire, frame headers included.
    pub bytes: u64,
}
