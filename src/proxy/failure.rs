//! Failures of requests and their responses, in one table. Only this file converts Pingora's errors.

pub(super) mod failed_attempt;

use crate::limit::QueueFull;
use crate::route::BadTarget;
use crate::telemetry::metrics::ClientAbort;
use crate::tls;
use crate::upstream::{DialError, NoEndpoint, Reason};
use crate::websocket::handshake::ResponseError;
use http::StatusCode;
use log::Level;
use pingora::{Error, ErrorSource, ErrorType};

/// The type of Pingora errors made by the gateway; the context has the reason.
pub(super) const OURS: ErrorType = ErrorType::Custom("rejected by the gateway");

/// The type of the error of a request body that violates its framing.
pub(super) const INVALID_FRAMING: ErrorType = ErrorType::Custom("invalid framing");

/// The exact error of a request, for the client and the log; empty if the reason token suffices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail(pub &'static str);

/// Why the gateway itself responds to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No route matches.
    NoRoute,
    /// The request violates RFC 9112 in a way that makes it ambiguous.
    BadRequest(Detail),
    /// Its path is ambiguous.
    AmbiguousPath(Detail),
    /// Its header is too large.
    HeadTooLarge,
    /// Its header took longer than `header_timeout`.
    HeaderTimeout,
    /// Its target is too long.
    TargetTooLong,
    /// An HTTP version that the listener does not support.
    VersionNotSupported,
    /// It passed this gateway too often (RFC 5842 §7.2).
    LoopDetected,
    /// Its body exceeds the limit of a plugin that reads the whole body.
    BodyTooLarge,
    /// No endpoint is available.
    NoEndpoint,
    /// Every available endpoint has its `max_connections`.
    EndpointsFull,
    /// Every endpoint refused the connection.
    ConnectRefused,
    /// The connect to every endpoint timed out.
    ConnectTimeout,
    /// The TLS handshake failed on every endpoint.
    TlsHandshake,
    /// The certificate of every endpoint is untrusted or has another name.
    TlsCertificate,
    /// A WebSocket to an upstream that supports only HTTP/2 without TLS.
    WebSocketOverH2c,
    /// A WebSocket for a backend that has HTTP/2 only.
    WebSocketOverH2,
    /// The backend cancelled a gRPC call after its deadline.
    DeadlineExceeded,
    /// The response took longer than the route's timeout.
    ResponseTimeout,
    /// The response was idle for longer than the route's `stream_idle_timeout`.
    StreamIdleTimeout,
    /// The response to a WebSocket handshake took longer than `handshake_timeout`.
    HandshakeTimeout,
    /// The backend's response is not HTTP, or must not be forwarded.
    BadResponse,
    /// The backend's 101 violates RFC 6455 §4.1.
    BadHandshake,
    /// The backend closed the connection before its response.
    UpstreamClosed,
    /// A WebSocket version other than 13 (RFC 6455 §4.4).
    WebSocketVersion,
    /// A handshake that RFC 6455 §4.2.1 does not allow.
    BadWebSocketRequest(Detail),
    /// A browser's Origin that the route does not allow.
    OriginDenied,
    /// A limit on concurrent WebSockets is reached.
    TooManyConnections,
    /// The handshake queue is full.
    TooManyHandshakes(QueueFull),
    /// The client has its maximum of WebSockets.
    TooManyOfClient,
    /// An HTTP/2 connection has its maximum of streams.
    TooManyStreams,
    /// The gateway is shutting down.
    Draining,
    /// This machine ran out of descriptors, ports or memory; no endpoint is at fault.
    NoResources,
    /// A method that the gateway does not support.
    NotImplemented,
    /// CONNECT to an arbitrary destination, or TRACE without a route that lists it.
    MethodNotAllowed,
    /// The client sent the request body too slowly.
    BodyTimeout,
    /// The client read its response too slowly; no response is sent.
    SendTimeout,
    /// The client disconnected; no response is sent.
    ClientGone,
    /// A plugin of the route panicked or failed; its checks were not made.
    Plugin,
    /// An internal error.
    Internal,
}

/// One row of the table.
pub struct Row {
    /// The status of the response; 0 if none is sent.
    pub status: u16,
    /// The reason token in the response, the access log and the metrics.
    pub token: &'static str,
    /// The log level.
    pub level: Level,
}

impl Failure {
    /// A malformed HTTP/2 request without further details.
    pub const MALFORMED: Self = Self::BadRequest(Detail("the request is malformed (RFC 9113 8.1.1)"));

    /// A connection where HTTP/2 alone is spoken begins with something else.
    pub const NOT_HTTP2: Self =
        Self::BadRequest(Detail("the connection does not begin as HTTP/2 (RFC 9113 3.4)"));

    /// All of them, in the order of the table.
    pub const ALL: [Self; 40] = [
        Self::NoRoute,
        Self::BadRequest(Detail("")),
        Self::AmbiguousPath(Detail("")),
        Self::HeadTooLarge,
        Self::HeaderTimeout,
        Self::TargetTooLong,
        Self::VersionNotSupported,
        Self::LoopDetected,
        Self::BodyTooLarge,
        Self::NoEndpoint,
        Self::EndpointsFull,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::TlsHandshake,
        Self::TlsCertificate,
        Self::WebSocketOverH2c,
        Self::WebSocketOverH2,
        Self::DeadlineExceeded,
        Self::ResponseTimeout,
        Self::StreamIdleTimeout,
        Self::HandshakeTimeout,
        Self::BadResponse,
        Self::BadHandshake,
        Self::UpstreamClosed,
        Self::WebSocketVersion,
        Self::BadWebSocketRequest(Detail("")),
        Self::OriginDenied,
        Self::TooManyConnections,
        Self::TooManyOfClient,
        Self::TooManyStreams,
        Self::TooManyHandshakes(QueueFull(std::time::Duration::ZERO)),
        Self::Draining,
        Self::NoResources,
        Self::NotImplemented,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::SendTimeout,
        Self::ClientGone,
        Self::Plugin,
        Self::Internal,
    ];

    /// The table.
    pub const fn row(self) -> Row {
        let (status, token, level) = match self {
            Self::NoRoute => (404, "no_route", Level::Debug),
            Self::BadRequest(_) => (400, "bad_request", Level::Debug),
            Self::AmbiguousPath(_) => (400, "ambiguous_path", Level::Debug),
            Self::HeadTooLarge => (431, "head_too_large", Level::Debug),
            Self::HeaderTimeout => (408, "header_timeout", Level::Debug),
            Self::TargetTooLong => (414, "target_too_long", Level::Debug),
            Self::VersionNotSupported => (505, "version_not_supported", Level::Debug),
            Self::LoopDetected => (508, "loop_detected", Level::Warn),
            Self::BodyTooLarge => (413, "body_too_large", Level::Debug),
            Self::NoEndpoint => (503, "no_endpoint", Level::Warn),
            // Debug like the other limits: an overload must not fill the log.
            Self::EndpointsFull => (503, "endpoints_full", Level::Debug),
            Self::ConnectRefused => (502, "connect_refused", Level::Warn),
            Self::ConnectTimeout => (504, "connect_timeout", Level::Warn),
            Self::TlsHandshake => (502, "tls_handshake", Level::Warn),
            Self::TlsCertificate => (502, "tls_certificate", Level::Warn),
            Self::WebSocketOverH2c => (502, "websocket_over_h2c", Level::Warn),
            Self::WebSocketOverH2 => (502, "websocket_over_h2", Level::Warn),
            // Debug: the client sets the deadline.
            Self::DeadlineExceeded => (504, "deadline_exceeded", Level::Debug),
            Self::ResponseTimeout => (504, "response_timeout", Level::Warn),
            Self::StreamIdleTimeout => (504, "stream_idle_timeout", Level::Warn),
            Self::HandshakeTimeout => (504, "handshake_timeout", Level::Warn),
            Self::BadResponse => (502, "bad_response", Level::Warn),
            Self::BadHandshake => (502, "bad_handshake", Level::Warn),
            Self::UpstreamClosed => (502, "upstream_closed", Level::Warn),
            Self::WebSocketVersion => (426, "websocket_version", Level::Debug),
            Self::BadWebSocketRequest(_) => (400, "bad_websocket_request", Level::Debug),
            Self::OriginDenied => (403, "origin_denied", Level::Debug),
            Self::TooManyConnections => (503, "too_many_connections", Level::Debug),
            Self::TooManyHandshakes(_) => (503, "too_many_handshakes", Level::Debug),
            Self::TooManyOfClient => (429, "too_many_of_client", Level::Debug),
            Self::TooManyStreams => (503, "too_many_streams", Level::Debug),
            Self::Draining => (503, "draining", Level::Debug),
            Self::NoResources => (503, "no_resources", Level::Error),
            Self::NotImplemented => (501, "not_implemented", Level::Debug),
            Self::MethodNotAllowed => (405, "method_not_allowed", Level::Debug),
            Self::BodyTimeout => (408, "body_timeout", Level::Debug),
            Self::SendTimeout => (0, "send_timeout", Level::Debug),
            Self::ClientGone => (0, "client_gone", Level::Debug),
            Self::Plugin => (500, "plugin_failed", Level::Error),
            Self::Internal => (500, "internal", Level::Error),
        };
        Row { status, token, level }
    }

    /// The status of the response; `None` if none is sent.
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.row().status).ok()
    }

    /// The reason token.
    pub const fn token(self) -> &'static str {
        self.row().token
    }

    /// The exact error; empty if the reason token suffices. It names the setting that would allow the request.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(Detail(detail))
            | Self::AmbiguousPath(Detail(detail))
            | Self::BadWebSocketRequest(Detail(detail)) => detail,
            Self::HeadTooLarge => {
                "the header is larger than `server.max_header_size`, or has too many fields"
            }
            Self::HeaderTimeout => "the header took longer than `server.header_timeout`",
            Self::TargetTooLong => BadTarget::TooLong.detail(),
            Self::TooManyStreams => {
                "the connection has its maximum of concurrent streams; the client may retry"
            }
            Self::LoopDetected => {
                "the request passed this gateway five times: an upstream leads back to the gateway"
            }
            Self::VersionNotSupported => "the request line must have HTTP/1.1 or HTTP/1.0",
            _ => "",
        }
    }

    /// Returns whether the client's connection may be reused: never while the end of the request is in doubt.
    pub const fn keeps_connection(self) -> bool {
        !matches!(
            self,
            Self::BadRequest(_)
                | Self::AmbiguousPath(_)
                | Self::HeadTooLarge
                | Self::HeaderTimeout
                | Self::TargetTooLong
                | Self::VersionNotSupported
                | Self::MethodNotAllowed
                | Self::BodyTimeout
                | Self::SendTimeout
                | Self::ClientGone
                | Self::Internal
        )
    }
}

impl Failure {
    /// How the client ended the request, if it did.
    pub const fn client_abort(self) -> Option<ClientAbort> {
        match self {
            Self::ClientGone => Some(ClientAbort::Gone),
            Self::BodyTimeout => Some(ClientAbort::Body),
            Self::SendTimeout => Some(ClientAbort::Send),
            _ => None,
        }
    }

    /// Returns whether the client caused the failure, which counts for no endpoint.
    pub const fn is_clients(self) -> bool {
        self.client_abort().is_some() || matches!(self, Self::BadRequest(_))
    }

    /// Returns whether TLS with a backend failed.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::TlsHandshake | Self::TlsCertificate)
    }

    /// Returns whether no connection was established, so that no request was sent.
    pub const fn is_before_request(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused | Self::ConnectTimeout | Self::TlsHandshake | Self::TlsCertificate
        )
    }

    /// The reason for passive health, if the endpoint is at fault.
    pub const fn endpoints_fault(self) -> Option<Reason> {
        match self {
            Self::ConnectRefused => Some(Reason::Refused),
            Self::ConnectTimeout => Some(Reason::ConnectTimeout),
            Self::TlsHandshake | Self::TlsCertificate => Some(Reason::Tls),
            Self::BadHandshake => Some(Reason::Handshake),
            // A handshake needs no work: a backend that does not respond to one responds to none.
            Self::HandshakeTimeout => Some(Reason::HandshakeTimeout),
            Self::BadResponse | Self::UpstreamClosed => Some(Reason::Closed),
            // A slow response depends on the request, not on the endpoint.
            _ => None,
        }
    }
}

impl From<BadTarget> for Failure {
    fn from(bad: BadTarget) -> Self {
        let detail = Detail(bad.detail());
        match bad {
            BadTarget::DotSegment => Self::AmbiguousPath(detail),
            BadTarget::TooLong => Self::TargetTooLong,
            BadTarget::Form | BadTarget::Host | BadTarget::Byte | BadTarget::Escape => {
                Self::BadRequest(detail)
            }
        }
    }
}

impl From<NoEndpoint> for Failure {
    fn from(error: NoEndpoint) -> Self {
        match error {
            NoEndpoint::Full => Self::EndpointsFull,
            NoEndpoint::Empty | NoEndpoint::Unhealthy | NoEndpoint::Tried => Self::NoEndpoint,
        }
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::TimedOut => Self::ConnectTimeout,
            DialError::Exhausted(_) => Self::NoResources,
            DialError::Handshake(_) => Self::TlsHandshake,
            // Only a WebSocket needs HTTP/1.1: the exchange leaves out an upgrade to another protocol, and uses HTTP/2.
            DialError::NoHttp1 => Self::WebSocketOverH2,
            DialError::Certificate(_) => Self::TlsCertificate,
            DialError::Refused | DialError::Other(_) => Self::ConnectRefused,
        }
    }
}

impl From<ResponseError> for Failure {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::TimedOut => Self::HandshakeTimeout,
            ResponseError::Bad(_) => Self::BadHandshake,
            ResponseError::Io(error) if tls::alert(&error).is_some() => Self::TlsHandshake,
            ResponseError::Closed | ResponseError::Io(_) => Self::UpstreamClosed,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if is_exhaustion(error) {
            return Self::NoResources;
        }
        if *error.esource() == ErrorSource::Upstream && failed_attempt::alert_behind(error).is_some() {
            return Self::TlsHandshake;
        }
        match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader) => Self::BadRequest(Detail("")),
            (ErrorSource::Downstream, error_type) if *error_type == INVALID_FRAMING => {
                Self::BadRequest(Detail("the body violates its framing"))
            }
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => Self::BodyTimeout,
            (ErrorSource::Downstream, ErrorType::WriteTimedout) => Self::SendTimeout,
            (ErrorSource::Downstream, _) => Self::ClientGone,
            (_, ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) => Self::ConnectTimeout,
            // Pingora exposes the cause only as text.
            (_, ErrorType::TLSHandshakeFailure) if says(error, "invalid peer certificate") => {
                Self::TlsCertificate
            }
            (_, ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert) => Self::TlsHandshake,
            (
                _,
                ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
                | ErrorType::SocketError,
            ) => Self::ConnectRefused,
            (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Self::ResponseTimeout,
            (_, ErrorType::InvalidHTTPHeader | ErrorType::H1Error) => Self::BadResponse,
            (
                ErrorSource::Upstream,
                ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError,
            ) => Self::UpstreamClosed,
            // It did not acknowledge a PING.
            (ErrorSource::Upstream, ErrorType::Custom("PingTimedout")) => Self::UpstreamClosed,
            (ErrorSource::Upstream, ErrorType::H2Error) if !is_nonsense(error) => Self::UpstreamClosed,
            (ErrorSource::Upstream, _) => Self::BadResponse,
            _ => Self::Internal,
        }
    }
}

/// Returns whether an HTTP/2 error concerns the content sent by the backend, not the end of a stream or
/// connection.
fn is_nonsense(error: &Error) -> bool {
    let h2_error = error.root_cause().downcast_ref::<h2::Error>();
    h2_error.is_none_or(|h2_error| !(h2_error.is_remote() || h2_error.is_io()))
}

fn says(error: &Error, words: &str) -> bool {
    error.context.as_ref().is_some_and(|context| context.as_str().contains(words))
}

/// Returns whether the chain of causes contains an exhausted kernel resource.
fn is_exhaustion(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    matches!(cause, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_plugins_call_counts_a_failed_connect_as_a_request_does() {
        let errors = || {
            [
                DialError::Refused,
                DialError::TimedOut,
                DialError::Exhausted(io::ErrorKind::OutOfMemory.into()),
                DialError::Handshake(io::ErrorKind::Other.into()),
                DialError::Certificate(rustls::Error::DecryptError),
                DialError::Other(io::ErrorKind::Other.into()),
            ]
        };
        for (error, same) in errors().into_iter().zip(errors()) {
            let failure = Failure::from(same);
            assert_eq!(
                (error.token(), error.fault()),
                (failure.token(), failure.endpoints_fault()),
                "{error}"
            );
        }
    }
}
