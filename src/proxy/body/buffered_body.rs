//! Buffered request body, read completely before the request is forwarded.
//!
//! Afterwards the session is replaced by one over the same connection whose request has a body of one byte,
//! already read. Pingora keeps at most 64 KiB of a body for a retry, but passes the kept bytes to every
//! attempt. That includes HTTP/2 backends, for which it does not read a request without a body. In place of
//! that byte each attempt gets the whole buffered body.

use super::expect_continue;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_stream::Connection;
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

/// A placeholder for the request header until that is set.
const READ: &[u8] = b"POST / HTTP/1.1\r\nHost: moongate\r\nContent-Length: 1\r\n\r\n.";

/// Returns whether there is a body to read. Sends 100 (Continue) if the client waits for it (RFC 9110
/// §10.1.1).
///
/// # Errors
/// When the declared length is too large, or the client disconnected.
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

/// The next chunk.
///
/// # Errors
/// When the client disconnected, was too slow, or violated the framing.
pub(in crate::proxy) async fn next(session: &mut Session) -> Result<Piece, ReplacementResponse> {
    match session.as_downstream_mut().read_request_body().await {
        Ok(bytes) => {
            let last = bytes.is_none() || session.as_downstream_mut().is_body_done();
            Ok(Piece { bytes: bytes.unwrap_or_default(), last })
        }
        Err(error) => Err(gone(session, error)),
    }
}

/// Ends reading from this connection.
fn gone(session: &mut Session, error: Box<Error>) -> ReplacementResponse {
    session.set_keepalive(None);
    let broken = connection(session).is_some_and(Connection::is_broken);
    let limit = || session_lookup::control(session).and_then(SessionControl::failure);
    let framing = Failure::BadRequest(Detail("the body violates its framing"));
    let failure = if broken { Some(framing) } else { limit() };
    failure.unwrap_or_else(|| Failure::from(&*error.into_down())).into()
}

/// The body was read: replaces the session by one whose request has one byte of body left to pass.
///
/// # Errors
/// When the connection cannot be recovered, which is excluded.
pub(in crate::proxy) async fn end(session: &mut Session, ctx: &Context) -> Result<(), ReplacementResponse> {
    // An HTTP/2 stream tracks that its body was taken.
    if session.as_http1().is_none() {
        return Ok(());
    }
    let head = session.req_header().clone();
    let placeholder = standing_in(Box::new(Cursor::new(Vec::new())), head.clone()).await?;
    let mut owned = std::mem::replace(session.as_downstream_mut(), placeholder);
    let keepalive = owned.get_keepalive();
    // A session returns its stream only for reuse, which a client's `Connection: close` would prevent.
    owned.req_header_mut().remove_header(&header::CONNECTION);
    owned.set_keepalive(Some(1));
    let ServerSession::H1(owned) = owned else { return Err(Failure::Internal.into()) };
    let Ok(Some(reusable)) = owned.reuse().await else { return Err(Failure::Internal.into()) };
    let (stream, _) = reusable.into_parts();
    let mut next = standing_in(stream, head).await?;
    if let Some(snapshot) = &ctx.snapshot {
        session_timeouts::configure_session(&mut next, &snapshot.globals);
    }
    next.set_keepalive(keepalive);
    *session.as_downstream_mut() = next;
    Ok(())
}

/// A session over `stream` that has read this header and the byte after it.
async fn standing_in(stream: Stream, head: RequestHeader) -> Result<ServerSession, ReplacementResponse> {
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(BytesMut::from(READ));
    if !matches!(session.read_request().await, Ok(true)) {
        return Err(Failure::Internal.into());
    }
    // The first query about the body fixes its length, from the current header.
    session.enable_retry_buffering();
    if !matches!(session.read_request_body().await, Ok(Some(_))) || !session.is_body_done() {
        return Err(Failure::Internal.into());
    }
    *session.req_header_mut() = head;
    Ok(session)
}
