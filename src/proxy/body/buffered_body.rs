//! All of a request's body, read before anything goes to a backend.
//!
//! Behind it the session is exchanged for one over the same connection whose request has a body of one
//! byte that was read already: Pingora keeps 64 KiB of what was read for another attempt and no more, but
//! shows what it kept at every attempt, also to backends of HTTP/2, which it never asks about a request
//! without a body. In its place the body is given to each of them whole, from one place.

use super::expect_continue;
use crate::proxy::context::Context;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::session_control::SessionControl;
use crate::proxy::downstream::session_lookup::{self, connection};
use crate::proxy::downstream::session_timeouts;
use crate::proxy::failure::{Detail, Failure};
use crate::proxy::replacement_response::ReplacementResponse;
use bytes::BytesMut;
use http::header;
use moongate_sdk::{BodyLength, Piece};
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::io::Cursor;

/// The head that stands in for the request's until that takes its place.
const READ: &[u8] = b"POST / HTTP/1.1\r\nHost: moongate\r\nContent-Length: 1\r\n\r\n.";

/// Whether there is a body to read. Tells a client that waits for it to go on (RFC 9110 §10.1.1).
///
/// # Errors
/// When the body says of itself that it is too large, or the client is gone.
pub(in crate::proxy) async fn begin(
    session: &mut Session,
    ctx: &mut Context,
    limit: usize,
) -> Result<bool, ReplacementResponse> {
    match ctx.received.body {
        BodyLength::Empty => return Ok(false),
        BodyLength::Exactly(length) if length > limit as u64 => return Err(Failure::BodyTooLarge.into()),
        BodyLength::Exactly(_) | BodyLength::Unknown => {}
    }
    if let Err(error) = expect_continue::ask_for(session, ctx).await {
        return Err(gone(session, error));
    }
    Ok(true)
}

/// The next piece.
///
/// # Errors
/// When the client is gone, took too long, or broke the framing's rules.
pub(in crate::proxy) async fn next(session: &mut Session) -> Result<Piece, ReplacementResponse> {
    match session.as_downstream_mut().read_request_body().await {
        Ok(bytes) => {
            let last = bytes.is_none() || session.as_downstream_mut().is_body_done();
            Ok(Piece { bytes: bytes.unwrap_or_default(), last })
        }
        Err(error) => Err(gone(session, error)),
    }
}

/// Nothing more is read from this connection.
fn gone(session: &mut Session, error: Box<Error>) -> ReplacementResponse {
    session.set_keepalive(None);
    let broken = connection(session).is_some_and(Connection::is_broken);
    let limit = || session_lookup::control(session).and_then(SessionControl::failure);
    let framing = Failure::BadRequest(Detail("the body breaks its framing"));
    let failure = if broken { Some(framing) } else { limit() };
    failure.unwrap_or_else(|| Failure::from(&*error.into_down())).into()
}

/// The body is read: exchanges the session for one whose request has a byte of it left to be shown.
///
/// # Errors
/// When the connection cannot be had back, which is excluded.
pub(in crate::proxy) async fn end(session: &mut Session, ctx: &Context) -> Result<(), ReplacementResponse> {
    // A stream of HTTP/2 knows by itself that its body was taken.
    if session.as_http1().is_none() {
        return Ok(());
    }
    let head = session.req_header().clone();
    let placeholder = standing_in(Box::new(Cursor::new(Vec::new())), head.clone()).await?;
    let mut owned = std::mem::replace(session.as_downstream_mut(), placeholder);
    let keepalive = owned.get_keepalive();
    // A session gives its stream back for reuse only, which a client's `Connection: close` would exclude.
    owned.req_header_mut().remove_header(&header::CONNECTION);
    owned.set_keepalive(Some(1));
    let ServerSession::H1(owned) = owned else { return Err(Failure::Internal.into()) };
    let Ok(Some(reusable)) = owned.reuse().await else { return Err(Failure::Internal.into()) };
    let (stream, _) = reusable.into_parts();
    let mut next = standing_in(stream, head).await?;
    if let Some(snapshot) = &ctx.snapshot {
        session_timeouts::configure_session(&mut next, &snapshot.terms);
    }
    next.set_keepalive(keepalive);
    *session.as_downstream_mut() = next;
    Ok(())
}

/// A session over `stream` that has read this head, and the byte behind it.
async fn standing_in(stream: Stream, head: RequestHeader) -> Result<ServerSession, ReplacementResponse> {
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(BytesMut::from(READ));
    if !matches!(session.read_request().await, Ok(true)) {
        return Err(Failure::Internal.into());
    }
    // The first question about the body settles where it ends, by the head that is there now.
    session.enable_retry_buffering();
    if !matches!(session.read_request_body().await, Ok(Some(_))) || !session.is_body_done() {
        return Err(Failure::Internal.into());
    }
    *session.req_header_mut() = head;
    Ok(session)
}
