//! One HTTP request on one connection, with a bounded response.

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
    NotConnected(ErrorType),
    /// A pooled connection had been closed before the response.
    Stale,
    /// A fresh connection was closed, or violated HTTP, before the response header was complete.
    NoAnswer,
    /// The response is an interim one.
    BadAnswer,
    /// The response header was received, but its body is incomplete or too long.
    Cut(StatusCode),
}

impl From<ExchangeError> for CallError {
    fn from(failed: ExchangeError) -> Self {
        match failed {
            ExchangeError::NotConnected(ErrorType::ConnectTimedout) => Self::TimedOut,
            ExchangeError::NotConnected(_) => Self::Unreachable,
            ExchangeError::Stale | ExchangeError::NoAnswer | ExchangeError::BadAnswer => Self::Bad,
            ExchangeError::Cut(status) => Self::Cut(status),
        }
    }
}

/// The header of a call; `host` replaces a missing `Host`.
///
/// # Errors
/// When `target` is invalid in a request line.
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

/// Sends the call on a pooled or a new connection, and pools the connection for `idle` if it is reusable; zero
/// means never.
pub(super) async fn exchange(
    connector: &Connector,
    peer: &HttpPeer,
    head: &RequestHeader,
    call: &Call,
    idle: Duration,
) -> Result<CallResponse, ExchangeError> {
    let (mut session, reused) = connector
        .get_http_session(peer)
        .await
        .map_err(|error| ExchangeError::NotConnected(error.etype.clone()))?;
    let (status, headers) = ask(&mut session, head, call).await.map_err(|failed| match failed {
        // Only idempotent calls are retried: the server may have processed the first one (RFC 9110 §9.2.2).
        AttemptError::Closed if reused && call.method.is_idempotent() => ExchangeError::Stale,
        AttemptError::Closed | AttemptError::Broken => ExchangeError::NoAnswer,
        AttemptError::Interim => ExchangeError::BadAnswer,
    })?;
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_body_ref().await.map_err(|_| ExchangeError::Cut(status))? {
        if piece.len() > call.limit - body.len() {
            return Err(ExchangeError::Cut(status));
        }
        body.extend_from_slice(piece);
    }
    if !idle.is_zero() && is_reusable(call, status) {
        connector.release_http_session(session, peer, Some(idle)).await;
    }
    Ok(CallResponse { status, headers, body: body.freeze() })
}

/// Returns whether the connection may be reused, beyond Pingora's own checks. A rejection may be sent before
/// the body was read: the server could parse the body as a request.
fn is_reusable(call: &Call, status: StatusCode) -> bool {
    call.body.is_empty() || status.is_success()
}

/// Why no response header was received.
enum AttemptError {
    /// The connection was closed before the first byte.
    Closed,
    /// The response violates HTTP.
    Broken,
    /// An unrequested 101, or too many interim responses.
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
