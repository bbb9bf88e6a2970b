//! Finished span, in the process's own types: what a request collects and the exporter encodes.

use super::span_context::{SpanContext, SpanId};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The keys of attributes by the stable semantic conventions for HTTP, and the gateway's own.
pub(crate) mod keys {
    pub(crate) use opentelemetry_semantic_conventions::trace::{
        CLIENT_ADDRESS, ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL,
        HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, NETWORK_PEER_ADDRESS,
        NETWORK_PEER_PORT, NETWORK_PROTOCOL_VERSION, NETWORK_TRANSPORT, SERVER_ADDRESS, SERVER_PORT,
        URL_FULL, URL_PATH, URL_SCHEME, USER_AGENT_ORIGINAL,
    };

    macro_rules! own_keys {
        ($($name:ident = $text:literal),+ $(,)?) => {
            $(pub(crate) const $name: &str = $text;)+

            /// The keys of the gateway's own.
            const OWN: &[&str] = &[$($name),+];
        };
    }

    own_keys! {
        ROUTE = "moongate.route",
        LISTENER = "moongate.listener",
        UPSTREAM = "moongate.upstream",
        ENDPOINT = "moongate.endpoint",
        ATTEMPTS = "moongate.attempts",
        REQUEST_ID = "moongate.request_id",
        GENERATION = "moongate.generation",
        ERROR_DETAIL = "moongate.error.detail",
        PLUGIN = "moongate.plugin.name",
        PLUGIN_PHASE = "moongate.plugin.phase",
        PLUGIN_RESULT = "moongate.plugin.result",
        PLUGIN_DURATION = "moongate.plugin.duration",
        CLOSE_CODE = "moongate.websocket.close_code",
        CLOSE_REASON = "moongate.websocket.close_reason",
        CLOSED_BY = "moongate.websocket.closed_by",
        MESSAGES_TO_BACKEND = "moongate.websocket.messages.to_backend",
        MESSAGES_TO_CLIENT = "moongate.websocket.messages.to_client",
        BYTES_TO_BACKEND = "moongate.websocket.bytes.to_backend",
        BYTES_TO_CLIENT = "moongate.websocket.bytes.to_client",
        ENDPOINTS = "moongate.websocket.endpoints",
        UPGRADE = "moongate.upgrade",
        FAILOVER_FROM = "moongate.failover.from",
        FAILOVER_TO = "moongate.failover.to",
        FAILOVER_DURATION = "moongate.failover.duration",
    }

    /// Those of the conventions.
    const CONVENTIONS: &[&str] = &[
        CLIENT_ADDRESS,
        ERROR_TYPE,
        HTTP_REQUEST_METHOD,
        HTTP_REQUEST_METHOD_ORIGINAL,
        HTTP_REQUEST_RESEND_COUNT,
        HTTP_RESPONSE_STATUS_CODE,
        HTTP_ROUTE,
        NETWORK_PEER_ADDRESS,
        NETWORK_PEER_PORT,
        NETWORK_PROTOCOL_VERSION,
        NETWORK_TRANSPORT,
        SERVER_ADDRESS,
        SERVER_PORT,
        URL_FULL,
        URL_PATH,
        URL_SCHEME,
        USER_AGENT_ORIGINAL,
    ];

    /// The key of this text, for attributes of another process. `None` for one that only a newer binary has.
    pub(crate) fn known(text: &str) -> Option<&'static str> {
        CONVENTIONS.iter().chain(OWN).find(|key| **key == text).copied()
    }
}

/// The longest text of an attribute in bytes: a queue of spans has bounded memory.
const LONGEST_TEXT: usize = 1024;

/// The role of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// A request of a client.
    Server,
    /// An attempt at an endpoint.
    Client,
    /// A WebSocket.
    Internal,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    Word(&'static str),
    Text(Box<str>),
    Shared(Arc<str>),
    Number(i64),
    Seconds(f64),
    List(Vec<Arc<str>>),
}

/// Values of another process: words are text there.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Written {
            #[serde(alias = "word", alias = "shared")]
            Text(Box<str>),
            Number(i64),
            Seconds(f64),
            List(Vec<Arc<str>>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self::Text(text),
            Written::Number(number) => Self::Number(number),
            Written::Seconds(seconds) => Self::Seconds(seconds),
            Written::List(list) => Self::List(list),
        })
    }
}

impl Value {
    /// Text from a client, cut at 1024 bytes.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(LONGEST_TEXT)].into())
    }

    /// Bytes from a client, cut at 1024 bytes. Invalid UTF-8 is replaced.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_TEXT)]);
        Self::text(&text)
    }

    /// A count.
    pub(crate) fn count(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// A fact about a span or event.
pub(crate) type Attribute = (&'static str, Value);

/// A moment within a span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpanEvent {
    /// When, in nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) name: Cow<'static, str>,
    pub(crate) attributes: Vec<Attribute>,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FinishedSpan {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<SpanId>,
    /// Whether the parent is of another process.
    pub(crate) has_remote_parent: bool,
    /// The valid `tracestate` of the trace.
    pub(crate) trace_state: Option<Arc<str>>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    /// Start and end, in nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) events: Vec<SpanEvent>,
    /// Events that exceeded a limit.
    pub(crate) dropped_events: u32,
    pub(crate) links: Vec<SpanContext>,
    pub(crate) is_error: bool,
}

impl FinishedSpan {
    /// A span of this process without further facts.
    pub(crate) fn new(context: SpanContext, kind: SpanKind, start: u64, end: u64) -> Self {
        Self {
            context,
            parent: None,
            has_remote_parent: false,
            trace_state: None,
            name: Cow::Borrowed(""),
            kind,
            start,
            end,
            attributes: Vec::new(),
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            is_error: false,
        }
    }
}

/// A time as nanoseconds since 1970.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(600);
        let Value::Text(cut) = Value::text(&format!("x{long}")) else { return };
        assert_eq!(cut.len(), 1023);
        let Value::Text(replaced) = Value::bytes(&[b'a', 0xff]) else { return };
        assert_eq!(&*replaced, "a\u{fffd}");
        let Value::Text(many) = Value::bytes(&[0xff; 4000]) else { return };
        assert!(many.len() <= LONGEST_TEXT);
    }
}
