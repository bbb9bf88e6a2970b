//! One request on one connection: a head out, a body out, a bounded answer in.

use crate::net::loop_detection;
use bytes::BytesMut;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moongate_sdk::{Call, CallError, CallResponse};
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, RetryType};
use std::time::Duration;

/// Interim answers (RFC 9110 §15.2) that are skipped; more are no answer.
const MOST_INTERIM: usize = 8;

/// Fields of one connection and of the framing (RFC 9110 §7.6.1, RFC 9112 §6): a plugin that copies a
/// client's head copies these with it, and here they would mean something else.
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

/// Why one try failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// No connection came about, and why.
    NotConnected(ErrorType),
    /// An idle connection had been closed meanwhile; nothing was answered.
    Stale,
    /// A fresh connection was closed, or broke HTTP, before an answer's head was there.
    NoAnswer,
    /// The answer is not one that can be taken: an interim one.
    BadAnswer,
    /// The answer's head is here, and its body broken or too long.
    Cut(StatusCode),
}

impl From<Failed> for CallError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotConnected(ErrorType::ConnectTimedout) => Self::TimedOut,
            Failed::NotConnected(_) => Self::Unreachable,
            Failed::Stale | Failed::NoAnswer | Failed::BadAnswer => Self::Bad,
            Failed::Cut(status) => Self::Cut(status),
        }
    }
}

/// The head of a call; `host` stands in for a missing `Host`.
///
/// # Errors
/// When `target` cannot stand in a request line.
pub(super) fn head(call: &Call, target: &str, host: &str) -> Result<RequestHeader, CallError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !target.starts_with('/') || !target.bytes().all(fits) {
        return Err(CallError::Unknown);
    }
    let build = || {
        let size = call.headers.len() + 2;
        let mut head = RequestHeader::build_no_case(call.method.clone(), target.as_bytes(), Some(size))?;
        for (name, value) in call.headers.iter().filter(|(name, _)| !NOT_SENT.contains(name)) {
            head.append_header(name.clone(), value.clone())?;
        }
        let (name, own) = loop_detection::own_mark();
        head.append_header(name, own)?;
        if !call.headers.contains_key(header::HOST) {
            head.insert_header(header::HOST, host)?;
        }
        let expects_body = matches!(call.method, Method::POST | Method::PUT | Method::PATCH);
        if !call.body.is_empty() || expects_body {
            head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(call.body.len()))?;
        }
        Ok::<_, Box<Error>>(head)
    };
    build().map_err(|_| CallError::Unknown)
}

/// Sends the call on a kept or a new connection, and keeps it for the next when it is as it should be.
pub(super) async fn exchange(
    connector: &Connector,
    peer: &HttpPeer,
    head: &RequestHeader,
    call: &Call,
    idle: Duration,
) -> Result<CallResponse, Failed> {
    let (mut session, reused) =
        connector.get_http_session(peer).await.map_err(|error| Failed::NotConnected(error.etype.clone()))?;
    let (status, headers) = ask(&mut session, head, call).await.map_err(|failed| match failed {
        // Only what may be repeated is: the other end may have acted on it (RFC 9110 §9.2.2).
        AttemptError::Closed if reused && call.method.is_idempotent() => Failed::Stale,
        AttemptError::Closed | AttemptError::Broken => Failed::NoAnswer,
        AttemptError::Interim => Failed::BadAnswer,
    })?;
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_body_ref().await.map_err(|_| Failed::Cut(status))? {
        if piece.len() > call.limit - body.len() {
            return Err(Failed::Cut(status));
        }
        body.extend_from_slice(piece);
    }
    if is_reusable(call, status) {
        connector.release_http_session(session, peer, Some(idle)).await;
    }
    Ok(CallResponse { status, headers, body: body.freeze() })
}

/// Whether the connection may serve another call, as far as the messages do not tell. A refusal may have been sent before
/// the body was read: the other end could take the body for a request. What Pingora can tell, it checks itself.
fn is_reusable(call: &Call, status: StatusCode) -> bool {
    call.body.is_empty() || status.is_success()
}

/// Why there is no answer's head.
enum AttemptError {
    /// The connection was closed before a byte of it.
    Closed,
    /// It is not HTTP.
    Broken,
    /// A 101 that nobody asked for, or interim answers without an end.
    Interim,
}

impl From<Box<Error>> for AttemptError {
    fn from(error: Box<Error>) -> Self {
        let closed = matches!(error.etype, ErrorType::WriteError | ErrorType::ConnectionClosed);
        if closed || error.retry == RetryType::ReusedOnly { Self::Closed } else { Self::Broken }
    }
}

async fn ask(
    session: &mut HttpSession,
    head: &RequestHeader,
    call: &Call,
) -> Result<(StatusCode, HeaderMap), AttemptError> {
    session.write_request_header(Box::new(head.clone())).await?;
    if !call.body.is_empty() {
        session.write_body(&call.body).await?;
    }
    session.finish_body().await?;
    for _ in 0..=MOST_INTERIM {
        session.read_response().await?;
        let Some(answer) = session.resp_header() else { return Err(AttemptError::Broken) };
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(AttemptError::Interim);
        }
        if !answer.status.is_informational() {
            return Ok((answer.status, answer.headers.clone()));
        }
    }
    Err(AttemptError::Interim)
}
