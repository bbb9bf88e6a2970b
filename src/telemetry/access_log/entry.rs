//! The fields of an access-log line. Their names on the line are json's; `docs/reference/access-log.md` describes them.

use crate::telemetry::metrics::By;
use moongate_sdk::ClientAddress;
use std::time::Duration;

/// One line: a request that was answered, or the start or end of a WebSocket. Borrowed: logging copies nothing but the line itself.
///
/// Bytes of a client are taken as they came; what is not UTF-8, or would disturb a terminal, is escaped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// What happened.
    pub event: Event<'a>,
    /// The client's address, as trusted proxies tell it; none for a unix socket.
    pub client: Option<ClientAddress<'a>>,
    /// The method as it came.
    pub method: &'a str,
    /// The host asked for; empty when there was none.
    pub host: &'a [u8],
    /// Path and query as they came.
    pub path: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'a str,
    /// Version and cipher suite of the client's TLS; none when its connection is plain.
    pub tls: Option<(&'a str, &'a str)>,
    /// The status sent to the client; 0 when none was sent.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// From the request's head to now.
    pub duration: Duration,
    /// The route's name; empty when none matched.
    pub route: &'a str,
    /// The upstream's name; empty when none was chosen.
    pub upstream: &'a str,
    /// The endpoint that answered, or was tried last; empty when none was.
    pub endpoint: &'a str,
    /// Endpoints tried.
    pub attempts: u32,
    /// The request's id.
    pub request_id: &'a str,
    /// The field `User-Agent`; empty when there was none.
    pub user_agent: &'a [u8],
    /// The field `Referer`; empty when there was none.
    pub referer: &'a [u8],
    /// The token of the error answer, or of what cut the answer short.
    pub error: Option<&'a str>,
    /// What exactly was wrong; empty where the token says it all.
    pub error_detail: &'a str,
    /// What plugins have to say, those of one plugin in a row.
    pub notes: &'a [Note<'a>],
}

/// Something that a plugin put into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// What it is about.
    pub key: &'a str,
    /// What it says.
    pub value: &'a str,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, Default)]
pub enum Event<'a> {
    /// A request was answered.
    #[default]
    Request,
    /// A WebSocket was opened.
    Open,
    /// A WebSocket lost its endpoint, and was moved to another one or not.
    Reconnect(FailoverRecord<'a>),
    /// A WebSocket ended.
    Close(Closed<'a>),
}

/// How a WebSocket lost its endpoint.
#[derive(Clone, Copy, Debug)]
pub struct FailoverRecord<'a> {
    /// The endpoint that was lost.
    pub from: &'a str,
    /// How it was lost, as a short constant word.
    pub reason: &'a str,
}

/// How a WebSocket ended and what it carried.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'a> {
    /// The code of the Close frame; none when there was none.
    pub code: Option<u16>,
    /// Why, as a short constant word.
    pub reason: &'a str,
    /// Who caused the end.
    pub by: By,
    /// What the client sent.
    pub to_backend: Flow,
    /// What the backend sent.
    pub to_client: Flow,
    /// From the handshake to the end.
    pub lifetime: Duration,
    /// The last ping round trip to the client.
    pub client_rtt: Option<Duration>,
    /// The last ping round trip to the backend.
    pub backend_rtt: Option<Duration>,
}

/// What went one way through a WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Whole messages, without control frames.
    pub messages: u64,
    /// Bytes on the wire, frame headers included.
    pub bytes: u64,
}
