//! Upstream responses: final changes to the header, non-101 responses to handshakes, and failed requests.

use super::local_response;
use super::non_101_response::replay;
use super::response_head::{GivenBy, finish_head};
use crate::proxy::attempt;
use crate::proxy::body::response_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::{Failure, OURS};
use crate::proxy::request::hop_by_hop;
use crate::tunnel::TunnelIo;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::http::v1::client::HttpSession as Upstream;
use pingora::{Error, ErrorType, Result};

/// Passes the header of a backend's response to the client. If the request is complete, a replacement is sent
/// here, so that both connections are kept; otherwise it ends the attempt.
///
/// # Errors
/// When the client disconnected, or the attempt ends.
pub(in crate::proxy) async fn from_backend(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let comes = response_body::has_response_body(ctx.method().unwrap_or(&session.request().method), head);
    let Some(instead) = finish_head(session, head, ctx, &[], GivenBy::Backend).await? else {
        attempt::reset_session(session, ctx);
        // No body follows that header, even if the backend sends one.
        let goes = response_body::has_body(&session.request().method, head.status);
        if ctx.upload.is_cut_off && !(comes && goes) {
            attempt::cut_off_upload(session, ctx);
        }
        return response_body::frame(session, head, ctx, comes);
    };
    if !ctx.received.is_extended_connect && !session.is_body_done() {
        ctx.instead = Some(instead);
        return Err(Error::new(OURS));
    }
    local_response::instead(session, ctx, instead).await?;
    ctx.replaced = true;
    Ok(())
}

/// Forwards a non-101 response to a handshake like any other response; the connection
/// continues with HTTP.
///
/// # Errors
/// When either side disconnected.
pub(in crate::proxy) async fn pass_on(
    session: &mut Session,
    ctx: &mut Context,
    tunnel_io: TunnelIo,
    read: &[u8],
) -> Result<()> {
    let Some(stream) = replay(tunnel_io, read) else {
        return local_response::failure(session, ctx, Failure::BadResponse).await;
    };
    let mut upstream = Upstream::new(stream);
    upstream.read_timeout = ctx.route.as_ref().and_then(|route| route.timeout);
    let mut head = loop {
        let head =
            match client_disconnect::unless_session_ends(session, upstream.read_resp_header_parts()).await {
                Ok(Ok(head)) => head,
                Ok(Err(_)) => return local_response::failure(session, ctx, Failure::BadResponse).await,
                Err(gone) => return local_response::failure(session, ctx, gone).await,
            };
        if !head.status.is_informational() {
            break head;
        }
    };
    if !hop_by_hop::frame_is_clear(&mut head)? {
        return local_response::failure(session, ctx, Failure::BadResponse).await;
    }
    let via = ctx.snapshot.as_ref().is_some_and(|snapshot| snapshot.globals.via.is_in_responses());
    hop_by_hop::response(&mut head, via)?;
    from_backend(session, &mut head, ctx).await?;
    if ctx.replaced {
        return Ok(());
    }
    let streams = attempt::is_event_stream(&head);
    upstream.read_timeout = ctx.route.as_ref().and_then(|route| route.silence(streams));
    session.write_head(*head, false).await?;
    loop {
        let failure = match client_disconnect::unless_session_ends(session, upstream.read_body_bytes()).await
        {
            Ok(Ok(Some(bytes))) => {
                write_piece(session, ctx, Some(bytes), false).await?;
                continue;
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => Failure::StreamIdleTimeout,
            Ok(Err(_)) => Failure::UpstreamClosed,
            Err(gone) => gone,
        };
        // The response is incomplete, so the client's connection is closed.
        ctx.failure = Some(failure);
        session.close_after_response();
        return Ok(());
    }
    write_piece(session, ctx, None, true).await?;
    upstream.shutdown().await;
    Ok(())
}

async fn write_piece(
    session: &mut Session,
    ctx: &mut Context,
    mut bytes: Option<Bytes>,
    end: bool,
) -> Result<()> {
    if ctx.plugins_see_body {
        response_body::pass(session, &mut bytes, end, ctx)?;
    }
    session.write_body(bytes.unwrap_or_default(), end).await
}

/// Responds to a failed request, or to one whose response ended before its body. Returns the status; 0 without
/// one. No other request follows.
pub(in crate::proxy) async fn give_up(session: &mut Session, error: &Error, ctx: &mut Context) -> u16 {
    session.close_after_response();
    if ctx.upload.is_over && ctx.instead.is_none() {
        return session.response_written().map_or(0, |head| head.status.as_u16());
    }
    let failure = ctx.failure.unwrap_or_else(|| attempt::failure(session, ctx, error));
    // A disconnected client gets no response, but the log entry is written.
    match ctx.instead.take() {
        Some(instead) => {
            let _ = local_response::instead(session, ctx, instead).await;
            session.response_written().map_or(0, |head| head.status.as_u16())
        }
        None => {
            let _ = local_response::failure(session, ctx, failure).await;
            failure.row().status
        }
    }
}
