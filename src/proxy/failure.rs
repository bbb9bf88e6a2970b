//! What a client is told when a request fails, in one table. Pingora's errors become ours here and
//! nowhere else.

pub(super) mod tls_error;

use crate::route::BadTarget;
use crate::telemetry::metrics::ClientAbort;
use crate::tunnel::QueueFull;
use crate::upstream::{DialError, Reason};
use crate::websocket::handshake::AnswerError;
use http::StatusCode;
use log::Level;
use pingora::{Error, ErrorSource, ErrorType};

/// Pingora's name for an error that was ours to begin with; the context has the reason.
pub(super) const OURS: ErrorType = ErrorType::Custom("refused by the gateway");

/// What exactly is wrong with a request, as a sentence for the client and the log; empty where the reason says it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail(pub &'static str);

/// Why the gateway itself answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No route matches.
    NoRoute,
    /// The request breaks RFC 9112 in a way that leaves its meaning in doubt.
    BadRequest(Detail),
    /// Its path has more than one reading.
    AmbiguousPath(Detail),
    /// Its head is too large.
    HeadTooLarge,
    /// Its head took longer than `header_timeout`.
    HeaderTimeout,
    /// Its target is longer than a URI may be.
    TargetTooLong,
    /// A version of HTTP that this listener does not speak.
    VersionNotSupported,
    /// It came through this gateway too often (RFC 5842 §7.2).
    LoopDetected,
    /// Its body is larger than a plugin that wants all of it allows.
    BodyTooLarge,
    /// No endpoint may take it.
    NoEndpoint,
    /// Every endpoint tried refused the connection.
    ConnectRefused,
    /// Every endpoint tried was out of reach for the connect timeout.
    ConnectTimeout,
    /// Every endpoint tried failed in the TLS handshake.
    TlsHandshake,
    /// The certificate of every endpoint tried is not one to trust, or not for its name.
    TlsCertificate,
    /// A WebSocket for backends that speak HTTP/2 without TLS alone.
    WebSocketOverH2c,
    /// The backend took longer than the route's timeout.
    ResponseTimeout,
    /// The backend was silent inside its response for longer than the route's `stream_idle_timeout`.
    StreamIdleTimeout,
    /// The backend took longer than `handshake_timeout` to answer a WebSocket handshake.
    HandshakeTimeout,
    /// The backend's answer is not HTTP, or not one that may be passed on.
    BadResponse,
    /// The backend answered a WebSocket handshake with a 101 that breaks RFC 6455 §4.1.
    BadHandshake,
    /// The backend closed the connection before it answered.
    UpstreamClosed,
    /// A WebSocket version other than 13 (RFC 6455 §4.4).
    WebSocketVersion,
    /// A handshake that RFC 6455 §4.2.1 does not allow.
    BadWebSocketRequest(Detail),
    /// A browser's Origin that the route does not allow.
    OriginDenied,
    /// A limit on concurrent WebSockets is reached.
    TooManyConnections,
    /// More handshakes wait for their turn than may.
    TooManyHandshakes(QueueFull),
    /// This client has as many WebSockets as it may.
    TooManyOfClient,
    /// An HTTP/2 connection has as many streams as it may.
    TooManyStreams,
    /// The gateway is ending.
    Draining,
    /// This machine ran out of descriptors, ports or memory: no endpoint's fault.
    NoResources,
    /// A method that the gateway does not serve.
    NotImplemented,
    /// CONNECT: the gateway makes no tunnels to where a client says. TRACE, where no route names it.
    MethodNotAllowed,
    /// The client took too long to send the request's body.
    BodyTimeout,
    /// The client took too long to take its response; nobody is told anything.
    SendTimeout,
    /// The client went away; nobody is told anything.
    ClientGone,
    /// A plugin of the route panicked or failed; nothing it should have checked is known.
    Plugin,
    /// Ours.
    Internal,
}

/// One row of the table.
pub struct Row {
    /// The status of the answer; 0 when nobody is left to answer.
    pub status: u16,
    /// The reason's name in the answer, the access log and the metrics.
    pub token: &'static str,
    /// How loud the log is.
    pub level: Level,
}

impl Failure {
    /// A request over HTTP/2 of which nothing more is known.
    pub const MALFORMED: Self = Self::BadRequest(Detail("the request is malformed (RFC 9113 8.1.1)"));

    /// A connection where HTTP/2 alone is spoken begins with something else.
    pub const NOT_HTTP2: Self =
        Self::BadRequest(Detail("the connection does not begin as HTTP/2 (RFC 9113 3.4)"));

    /// All of them, in the order of the table.
    pub const ALL: [Self; 37] = [
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
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::TlsHandshake,
        Self::TlsCertificate,
        Self::WebSocketOverH2c,
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
            Self::ConnectRefused => (502, "connect_refused", Level::Warn),
            Self::ConnectTimeout => (504, "connect_timeout", Level::Warn),
            Self::TlsHandshake => (502, "tls_handshake", Level::Warn),
            Self::TlsCertificate => (502, "tls_certificate", Level::Warn),
            Self::WebSocketOverH2c => (502, "websocket_over_h2c", Level::Warn),
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

    /// The status of the answer; `None` when nobody is left to answer.
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.row().status).ok()
    }

    /// The reason's name.
    pub const fn token(self) -> &'static str {
        self.row().token
    }

    /// What exactly is wrong; empty where the reason says it all. A refusal that a setting allows names it.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(Detail(detail))
            | Self::AmbiguousPath(Detail(detail))
            | Self::BadWebSocketRequest(Detail(detail)) => detail,
            Self::HeadTooLarge => "the head is larger than `server.max_header_size`, or has too many fields",
            Self::HeaderTimeout => "the head took longer than `server.header_timeout`",
            Self::TargetTooLong => BadTarget::TooLong.detail(),
            Self::TooManyStreams => "the connection has as many streams as it may; the client may try again",
            Self::LoopDetected => {
                "the request came through this gateway five times: an upstream leads back to it"
            }
            Self::VersionNotSupported => "this listener speaks HTTP/1.1 and HTTP/1.0 here",
            _ => "",
        }
    }

    /// Whether the connection to the client may serve another request: never while the end of this
    /// one is in doubt.
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
    /// How the client ended the request, when it did.
    pub const fn client_abort(self) -> Option<ClientAbort> {
        match self {
            Self::ClientGone => Some(ClientAbort::Gone),
            Self::BodyTimeout => Some(ClientAbort::Body),
            Self::SendTimeout => Some(ClientAbort::Send),
            _ => None,
        }
    }

    /// Whether the client caused it: no endpoint is counted for it.
    pub const fn is_clients(self) -> bool {
        self.client_abort().is_some() || matches!(self, Self::BadRequest(_))
    }

    /// Whether TLS with a backend is what failed.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::TlsHandshake | Self::TlsCertificate)
    }

    /// Whether no connection came about, so that the backend was asked for nothing.
    pub const fn is_before_request(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused | Self::ConnectTimeout | Self::TlsHandshake | Self::TlsCertificate
        )
    }

    /// What passive health is told, when an endpoint is to blame.
    pub const fn endpoints_fault(self) -> Option<Reason> {
        match self {
            Self::ConnectRefused => Some(Reason::Refused),
            Self::ConnectTimeout => Some(Reason::ConnectTimeout),
            Self::TlsHandshake | Self::TlsCertificate => Some(Reason::Tls),
            Self::BadHandshake => Some(Reason::Handshake),
            // A handshake asks for no work: a backend that does not answer one answers none.
            Self::HandshakeTimeout => Some(Reason::HandshakeTimeout),
            Self::BadResponse | Self::UpstreamClosed => Some(Reason::Closed),
            // A slow answer says something about the request, not about the endpoint.
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

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::TimedOut => Self::ConnectTimeout,
            DialError::Exhausted(_) => Self::NoResources,
            DialError::Handshake(_) => Self::TlsHandshake,
            DialError::Certificate(_) => Self::TlsCertificate,
            DialError::Refused | DialError::Other(_) => Self::ConnectRefused,
        }
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::TimedOut => Self::HandshakeTimeout,
            AnswerError::Bad(_) => Self::BadHandshake,
            AnswerError::Io(error) if tls_error::alert(&error).is_some() => Self::TlsHandshake,
            AnswerError::Closed | AnswerError::Io(_) => Self::UpstreamClosed,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if is_exhaustion(error) {
            return Self::NoResources;
        }
        if *error.esource() == ErrorSource::Upstream && tls_error::alert_behind(error).is_some() {
            return Self::TlsHandshake;
        }
        match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader) => Self::BadRequest(Detail("")),
            (ErrorSource::Downstream, ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd")) => {
                Self::BadRequest(Detail("the body breaks its framing"))
            }
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => Self::BodyTimeout,
            (ErrorSource::Downstream, ErrorType::WriteTimedout) => Self::SendTimeout,
            (ErrorSource::Downstream, _) => Self::ClientGone,
            (_, ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) => Self::ConnectTimeout,
            // Pingora tells why as text alone.
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
            // It did not answer a PING.
            (ErrorSource::Upstream, ErrorType::Custom("PingTimedout")) => Self::UpstreamClosed,
            (ErrorSource::Upstream, ErrorType::H2Error) if !is_nonsense(error) => Self::UpstreamClosed,
            (ErrorSource::Upstream, _) => Self::BadResponse,
            _ => Self::Internal,
        }
    }
}

/// Whether an error of HTTP/2 is about what the backend sent, and not about the end of a stream or connection.
fn is_nonsense(error: &Error) -> bool {
    let told = error.root_cause().downcast_ref::<h2::Error>();
    told.is_none_or(|told| !(told.is_remote() || told.is_io()))
}

fn says(error: &Error, words: &str) -> bool {
    error.context.as_ref().is_some_and(|context| context.as_str().contains(words))
}

/// Whether the kernel had nothing left to give, wherever in the chain of causes it says so.
fn is_exhaustion(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    matches!(cause, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL))
}
