//! Upstream responses: final changes to the header, and failed requests.

use super::local_response;
use super::response_head::{GivenBy, finish_head};
use crate::proxy::attempt;
use crate::proxy::body::response_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::OURS;
use pingora::http::ResponseHeader;
use pingora::{Error, Result};

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
    if ctx.is_draining() {
        // The shutdown may have begun during the request.
        session.close_after_response();
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
        ctx.response.instead = Some(instead);
        return Err(Error::new(OURS));
    }
    // Boxed, as every rare future that the future of each request would reserve space for.
    Box::pin(local_response::instead(session, ctx, instead)).await?;
    ctx.response.is_replaced = true;
    Ok(())
}

/// Responds to a failed request, or to one whose response ended before its body. Returns the status; 0 without
/// one. Another request may follow if the client gets a whole response.
pub(in crate::proxy) async fn give_up(session: &mut Session, error: &Error, ctx: &mut Context) -> u16 {
    if session.has_response() {
        session.close_after_response();
    }
    if ctx.upload.is_over && ctx.response.instead.is_none() {
        return session.response_written().map_or(0, |head| head.status.as_u16());
    }
    let failure = ctx.failure.unwrap_or_else(|| attempt::failure(session, ctx, error));
    // A disconnected client gets no response, but the log entry is written.
    match ctx.response.instead.take() {
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
