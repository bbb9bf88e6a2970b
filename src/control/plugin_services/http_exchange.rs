//! One HTTP request on one connection, with a bounded response.

use crate::net::http1::body_decoder::BodyDecoder;
use crate::net::http1::response_head::has_clear_framing;
use crate::net::loop_detection;
use crate::tls;
use crate::upstream::{BodyPart, Broken, DialError, Http1Connection, Progress, Reason, keeps_alive};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode};
use moongate_sdk::{Call, CallError, CallResponse};
use pingora::http::ResponseHeader;

/// The maximum number of interim responses (RFC 9110 §15.2) before the attempt fails.
const MOST_INTERIM: usize = 8;

/// Connection and framing fields (RFC 9110 §7.6.1, RFC 9112 §6). A plugin that copies a client's header
/// copies them too, and they would change the framing of the call.
const NOT_SENT: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::EXPECT,
];

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// No connection was established.
    NotConnected(DialError),
    /// The connection was closed before the header of a final response was complete.
    Closed,
    /// The server rejected the TLS handshake after the gateway had finished it.
    TlsAlert,
    /// The response violates HTTP, or is an interim one without end.
    BadResponse,
    /// The response header was received, but its body is incomplete or too long.
    Cut(StatusCode),
}

impl ExchangeError {
    /// Whether the call may be sent again (RFC 9110 §9.2.2): it was not sent, or another one has no further effect.
    pub(super) fn is_repeatable(&self, method: &Method) -> bool {
        match self {
            Self::NotConnected(_) => true,
            Self::Closed => method.is_idempotent(),
            Self::TlsAlert | Self::BadResponse | Self::Cut(_) => false,
        }
    }

    /// The token that counts the failure, and the reason for passive health if the endpoint is at fault.
    pub(super) fn blame(&self) -> Option<(&'static str, Option<Reason>)> {
        match self {
            Self::NotConnected(error) => Some((error.token(), error.fault())),
            Self::Closed => Some((Reason::Closed.as_str(), Some(Reason::Closed))),
            Self::TlsAlert => Some((Reason::Tls.as_str(), Some(Reason::Tls))),
            Self::BadResponse => Some(("bad_response", Some(Reason::Closed))),
            // It may be longer than the plugin accepts.
            Self::Cut(_) => None,
        }
    }
}

impl From<DialError> for ExchangeError {
    fn from(error: DialError) -> Self {
        Self::NotConnected(error)
    }
}

impl From<ExchangeError> for CallError {
    fn from(failed: ExchangeError) -> Self {
        match failed {
            ExchangeError::NotConnected(DialError::TimedOut) => Self::TimedOut,
            ExchangeError::NotConnected(_) | ExchangeError::TlsAlert => Self::Unreachable,
            ExchangeError::Closed => Self::Closed,
            ExchangeError::BadResponse => Self::Bad,
            ExchangeError::Cut(status) => Self::Cut(status),
        }
    }
}

/// The header of a call with these fields; `host` replaces a missing `Host`. `keeps` tells whether the connection is
/// kept for other calls.
///
/// # Errors
/// When `target` is invalid in a request line.
pub(super) fn head(
    call: &Call,
    headers: &HeaderMap,
    (target, host): (&str, &str),
    keeps: bool,
) -> Result<Vec<u8>, CallError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !target.starts_with('/') || !target.bytes().all(fits) {
        return Err(CallError::Unknown);
    }
    let mut out = Vec::with_capacity(256);
    for part in [call.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    // Host first, as RFC 9110 §7.2 recommends.
    field("Host", headers.get(header::HOST).map_or(host.as_bytes(), |host| host.as_bytes()));
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::HOST && !NOT_SENT.contains(name))
    {
        field(name.as_str(), value.as_bytes());
    }
    let (name, mark) = loop_detection::own_mark();
    field(name.as_str(), mark.as_bytes());
    let expects_body = matches!(call.method, Method::POST | Method::PUT | Method::PATCH);
    if !call.body.is_empty() || expects_body {
        field("Content-Length", call.body.len().to_string().as_bytes());
    }
    if !keeps {
        // RFC 9112 §9.6.
        field("Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// The result of an exchange.
pub(super) struct Exchanged {
    pub(super) response: CallResponse,
    /// The connection, if it can serve another request.
    pub(super) reusable: Option<Box<Http1Connection>>,
}

/// Sends the call and receives the response; `responded` is called when its header has been received.
pub(super) async fn exchange(
    mut connection: Box<Http1Connection>,
    head: &[u8],
    call: &Call,
    responded: impl FnOnce(),
) -> Result<Exchanged, ExchangeError> {
    let (head, is_sent) = send(&mut connection, head, call).await?;
    let status = head.status;
    if !has_clear_framing(status, head.version, &head.headers) {
        return Err(ExchangeError::BadResponse);
    }
    responded();
    let mut decoder = BodyDecoder::new(&call.method, status, &head.headers);
    let is_closed_after = decoder.ends_with_connection() || !keeps_alive(&head);
    let body = receive(&mut connection, &mut decoder, call.limit).await.ok_or(ExchangeError::Cut(status))?;
    // A rejection may be sent before the body was read: the server could parse the body as a request.
    let may_keep = is_sent && !is_closed_after && (call.body.is_empty() || status.is_success());
    let response = CallResponse { status, headers: head.headers.clone(), body };
    Ok(Exchanged { response, reusable: may_keep.then_some(connection) })
}

/// Sends the request until the header of the final response is received, and returns whether all was sent.
async fn send(
    connection: &mut Http1Connection,
    head: &[u8],
    call: &Call,
) -> Result<(ResponseHeader, bool), ExchangeError> {
    let mut out = BytesMut::from(head);
    let mut body = call.body.clone();
    let mut interim = 0;
    // What a failed write leaves is not sent, but the server may have responded before.
    let mut is_broken = false;
    loop {
        while let Some((head, _)) = connection.next_head().map_err(|_| ExchangeError::BadResponse)? {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(ExchangeError::BadResponse);
            }
            if !head.status.is_informational() {
                let is_sent = !is_broken && out.is_empty() && body.is_empty();
                if !is_sent {
                    connection.stop_writing();
                }
                return Ok((head, is_sent));
            }
            interim += 1;
            if interim > MOST_INTERIM {
                return Err(ExchangeError::BadResponse);
            }
        }
        match connection.progress(&mut out, &mut body, true).await {
            Ok(Progress::Written | Progress::Received) => {}
            Err(Broken::Write(_)) => is_broken = true,
            Err(Broken::Read(error)) if tls::alert(&error).is_some() => return Err(ExchangeError::TlsAlert),
            Ok(Progress::Closed) | Err(Broken::Read(_)) => {
                return Err(ExchangeError::Closed);
            }
        }
    }
}

/// Receives the body; `None` if it is incomplete or longer than `limit`.
async fn receive(connection: &mut Http1Connection, decoder: &mut BodyDecoder, limit: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    loop {
        match connection.next_part(decoder).ok()? {
            BodyPart::Data(data) if data.len() > limit - body.len() => return None,
            BodyPart::Data(data) => body.extend_from_slice(&data),
            BodyPart::End => return Some(body.freeze()),
            BodyPart::NeedsBytes => {
                match connection.progress(&mut BytesMut::new(), &mut Bytes::new(), true).await {
                    // The response may be complete although the end of the request was not taken.
                    Ok(Progress::Written | Progress::Received) | Err(Broken::Write(_)) => {}
                    Ok(Progress::Closed) if decoder.ends_with_connection() => return Some(body.freeze()),
                    Ok(Progress::Closed) | Err(Broken::Read(_)) => return None,
                }
            }
        }
    }
}
