//! Fields of a line: their names, their order in a JSON line, and their values. `docs/reference/access-log.md` describes
//! them.

use super::entry::{Closed, Entry, Event, Note};
use crate::telemetry::TraceId;
use moongate_sdk::ClientAddress;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

macro_rules! fields {
    ($($(#[$about:meta])+ $variant:ident = $name:literal,)+) => {
        /// A field of an access log line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Field { $($(#[$about])+ #[serde(rename = $name)] $variant,)+ }

        impl Field {
            /// Every field, in the order of a JSON line.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in the configuration and in a JSON line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

fields! {
    /// Time when the line was written, RFC 3339 with milliseconds, UTC.
    Time = "time",
    /// `open`, `reconnect` or `close` of a WebSocket, `open` or `close` of another upgraded connection; absent for a
    /// request.
    Event = "event",
    /// Protocol of an upgraded connection, as `upgrades` lists it; absent for a WebSocket.
    Upgrade = "upgrade",
    /// Address of the client, as trusted proxies and PROXY headers report it.
    Client = "client",
    /// Method.
    Method = "method",
    /// Requested host.
    Host = "host",
    /// Path and query as the client sent them.
    Path = "path",
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    Protocol = "protocol",
    /// `TLSv1.2` or `TLSv1.3`; absent for a plain connection.
    TlsVersion = "tls_version",
    /// Cipher suite by its IANA name, for example `TLS_AES_128_GCM_SHA256`.
    TlsCipher = "tls_cipher",
    /// Status that was sent; without one 499 if the client had left, otherwise 0. A WebSocket has 101, over HTTP/2 200;
    /// another upgraded connection has 101.
    Status = "status",
    /// Bytes of the response body.
    BytesSent = "bytes_sent",
    /// Bytes of the request body.
    BytesReceived = "bytes_received",
    /// Milliseconds from the request header to this line; for the end of a WebSocket, its lifetime.
    DurationMs = "duration_ms",
    /// Name of the route.
    Route = "route",
    /// Name of the upstream.
    Upstream = "upstream",
    /// Endpoint that responded, or that was tried last.
    Endpoint = "endpoint",
    /// Number of endpoints tried.
    Attempts = "attempts",
    /// ID of the request.
    RequestId = "request_id",
    /// ID of the request's trace; absent for a request that is not traced.
    TraceId = "trace_id",
    /// Field User-Agent.
    UserAgent = "user_agent",
    /// Field Referer.
    Referer = "referer",
    /// Reason of an error response, or of a response that was cut.
    Error = "error",
    /// What exactly was wrong, and the setting that allows it if there is one; absent if `error` says it all.
    ErrorDetail = "error_detail",
    /// Notes of plugins: `{"NAME":{"key":"value"}}`. A WebSocket has those of its handshake on the line `open`, those of
    /// plugins that read messages or its end on the line `close`.
    Plugins = "plugins",
    /// WebSocket: code of the Close frame, 1005 for one without a code; absent without a Close frame.
    Code = "code",
    /// WebSocket or other upgraded connection: why it ended, or how the endpoint of a WebSocket was lost.
    Reason = "reason",
    /// WebSocket, line `reconnect`: the lost endpoint. `endpoint` is the new one, or the lost one if `error` is
    /// `reconnect_failed`.
    From = "from",
    /// WebSocket or other upgraded connection: `client`, `backend` or `gateway` ended it.
    By = "by",
    /// WebSocket: messages from the client.
    MessagesToBackend = "messages_to_backend",
    /// WebSocket or other upgraded connection: bytes from the client, frame headers included.
    BytesToBackend = "bytes_to_backend",
    /// WebSocket: messages from the backend.
    MessagesToClient = "messages_to_client",
    /// WebSocket or other upgraded connection: bytes from the backend, frame headers included.
    BytesToClient = "bytes_to_client",
    /// WebSocket or other upgraded connection: milliseconds from the handshake to the end.
    LifetimeMs = "lifetime_ms",
    /// WebSocket: last ping round trip to the client.
    ClientRttMs = "client_rtt_ms",
    /// WebSocket: last ping round trip to the backend.
    BackendRttMs = "backend_rtt_ms",
}

/// The value of a field in one line. Bytes of a client are not escaped yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldValue<'a> {
    /// The line has no such field.
    Absent,
    /// The time of the line.
    Time,
    Text(&'a [u8]),
    Address(IpAddr),
    Number(u64),
    Milliseconds(Duration),
    Trace(TraceId),
    Notes(&'a [Note<'a>]),
}

impl Field {
    /// The field's value in the line of `entry`.
    pub(super) fn value<'a>(self, entry: &Entry<'a>) -> FieldValue<'a> {
        use FieldValue::{Absent, Milliseconds, Notes, Number, Text};
        match self {
            Self::Time => FieldValue::Time,
            Self::Event => match entry.event {
                Event::Request => Absent,
                Event::Open => Text(b"open"),
                Event::Reconnect(_) => Text(b"reconnect"),
                Event::Close(_) => Text(b"close"),
            },
            Self::Upgrade => text(entry.upgrade.as_bytes()),
            Self::Client => match entry.client {
                Some(ClientAddress::Ip(address)) => FieldValue::Address(address),
                Some(ClientAddress::Unreadable(text)) => Text(text.as_bytes()),
                None => Absent,
            },
            // An empty method or path is one that could not be read.
            Self::Method => Text(entry.method.as_bytes()),
            Self::Path => Text(entry.path),
            Self::Protocol => Text(entry.protocol.as_bytes()),
            Self::Host => text(entry.host),
            Self::TlsVersion => entry.tls.map_or(Absent, |(version, _)| Text(version.as_bytes())),
            Self::TlsCipher => entry.tls.map_or(Absent, |(_, cipher)| Text(cipher.as_bytes())),
            Self::Status => Number(entry.status.into()),
            Self::BytesSent => Number(entry.bytes_sent),
            Self::BytesReceived => Number(entry.bytes_received),
            Self::DurationMs => Milliseconds(entry.duration),
            Self::Route => text(entry.route.as_bytes()),
            Self::Upstream => text(entry.upstream.as_bytes()),
            Self::Endpoint => text(entry.endpoint.as_bytes()),
            Self::Attempts => Number(entry.attempts.into()),
            Self::RequestId => text(entry.request_id.as_bytes()),
            Self::TraceId => entry.trace_id.map_or(Absent, FieldValue::Trace),
            Self::UserAgent => text(entry.user_agent),
            Self::Referer => text(entry.referer),
            Self::Error => text(entry.error.unwrap_or_default().as_bytes()),
            Self::ErrorDetail => text(entry.error_detail.as_bytes()),
            Self::Plugins if entry.notes.is_empty() => Absent,
            Self::Plugins => Notes(entry.notes),
            Self::Reason => match &entry.event {
                Event::Request | Event::Open => Absent,
                Event::Reconnect(lost) => Text(lost.reason.as_bytes()),
                Event::Close(closed) => Text(closed.reason.as_bytes()),
            },
            Self::From => match &entry.event {
                Event::Reconnect(lost) => Text(lost.from.as_bytes()),
                Event::Request | Event::Open | Event::Close(_) => Absent,
            },
            Self::Code
            | Self::By
            | Self::MessagesToBackend
            | Self::BytesToBackend
            | Self::MessagesToClient
            | Self::BytesToClient
            | Self::LifetimeMs
            | Self::ClientRttMs
            | Self::BackendRttMs => match &entry.event {
                Event::Close(closed) => self.of_close(closed),
                Event::Request | Event::Open | Event::Reconnect(_) => Absent,
            },
        }
    }

    fn of_close<'a>(self, closed: &Closed<'a>) -> FieldValue<'a> {
        use FieldValue::{Absent, Milliseconds, Number};
        match self {
            Self::Code => closed.code.map_or(Absent, |code| Number(code.into())),
            Self::By => FieldValue::Text(closed.by.label().as_bytes()),
            Self::MessagesToBackend => closed.to_backend.messages.map_or(Absent, Number),
            Self::BytesToBackend => Number(closed.to_backend.bytes),
            Self::MessagesToClient => closed.to_client.messages.map_or(Absent, Number),
            Self::BytesToClient => Number(closed.to_client.bytes),
            Self::LifetimeMs => Milliseconds(closed.lifetime),
            Self::ClientRttMs => closed.client_rtt.map_or(Absent, Milliseconds),
            Self::BackendRttMs => closed.backend_rtt.map_or(Absent, Milliseconds),
            _ => Absent,
        }
    }
}

/// Text that is absent where it is empty.
fn text(text: &[u8]) -> FieldValue<'_> {
    if text.is_empty() { FieldValue::Absent } else { FieldValue::Text(text) }
}

#[cfg(test)]
mod tests {
    use super::Field;

    #[test]
    fn the_documentation_has_every_field_in_the_order_of_a_line() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/access-log.md"));
        let table =
            page.split("## Fields").nth(1).unwrap_or_default().split("\n## ").next().unwrap_or_default();
        let written: Vec<&str> =
            table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(written, Field::ALL.map(Field::name));
    }
}
