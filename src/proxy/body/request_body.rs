//! Plugin phases of a request: first its header, then its body, chunk by chunk on the way to the backend, or
//! whole for a plugin that buffers it.
//!
//! `buffered_body` reads a whole body and replaces it afterwards.

use super::buffered_body;
use crate::plugin::Decision;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::{Failure, OURS};
use crate::proxy::message_fields::RequestFields;
use crate::proxy::replacement_response::ReplacementResponse;
use crate::proxy::request::request_facts::RequestLine;
use crate::proxy::upload::BodyProgress;
use crate::snapshot::Route;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use moongate_sdk::{BodyLength, Piece};
use pingora::http::RequestHeader;
use pingora::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// The argument of a plugin phase.
enum PluginArgument<'p> {
    /// The header, from a position on.
    Head(usize),
    /// A chunk of the body, for these positions.
    Piece(Range<usize>, &'p mut Piece),
    /// The whole body, for the plugin that requested it.
    Whole(usize, &'p mut Piece),
}

/// Runs the request phases of the route's plugins. Returns the response of a plugin, if one responds.
pub(in crate::proxy) async fn ask_plugins(
    session: &mut Session,
    ctx: &mut Context,
) -> Option<ReplacementResponse> {
    let route = ctx.route.clone().filter(|route| !route.chain.skips_request_headers())?;
    let head = session.request();
    if (ctx.received.is_websocket() || ctx.upgrade.is_some()) && route.chain.rechecks().next().is_some() {
        ctx.original_fields = Some(Box::new(head.headers.clone()));
    }
    let mut from = 0;
    loop {
        match show(session, ctx, &route, PluginArgument::Head(from)).await {
            Err(gone) => return Some(gone.into()),
            Ok(Decision::Continue) => break,
            Ok(Decision::Body { at, limit }) => {
                from = at + 1;
                if let Err(instead) = Box::pin(hold(session, ctx, &route, at, limit)).await {
                    return Some(instead);
                }
            }
            Ok(decision) => return ReplacementResponse::of(decision),
        }
    }
    let bytes = ctx.upload.whole.take()?;
    let seen = ctx.upload.seen;
    let rest = Box::pin(pass_whole(session, ctx, &route, seen..usize::MAX, bytes)).await;
    rest.map(|bytes| ctx.upload.whole = Some(bytes)).err()
}

/// Passes the whole body to the plugin at `at`, after those before it.
async fn hold(
    session: &mut Session,
    ctx: &mut Context,
    route: &Arc<Route>,
    at: usize,
    limit: u64,
) -> std::result::Result<(), ReplacementResponse> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let bytes = match ctx.upload.whole.take() {
        Some(bytes) => {
            let seen = ctx.upload.seen;
            pass_whole(session, ctx, route, seen..at, bytes).await?
        }
        None => read(session, ctx, route, at, limit).await?,
    };
    if bytes.len() > limit {
        return Err(Failure::BodyTooLarge.into());
    }
    let mut piece = Piece { bytes, last: true };
    if let Some(instead) =
        ReplacementResponse::of(show(session, ctx, route, PluginArgument::Whole(at, &mut piece)).await?)
    {
        return Err(instead);
    }
    ctx.upload.whole = Some(piece.bytes);
    ctx.upload.seen = at + 1;
    Ok(())
}

/// Reads the body to its end, through the plugins before `at`.
async fn read(
    session: &mut Session,
    ctx: &mut Context,
    route: &Arc<Route>,
    at: usize,
    limit: usize,
) -> std::result::Result<Bytes, ReplacementResponse> {
    if !buffered_body::begin(session, ctx, limit).await? {
        return Ok(Bytes::new());
    }
    let filtered = route.chain.wants_request_body(0, &ctx.running);
    let mut body = BytesMut::new();
    let mut last = false;
    while !last {
        let next = buffered_body::next(session).await?;
        ctx.upload.read += next.bytes.len();
        last = next.last;
        let mut piece = next;
        if filtered {
            let decision = show(session, ctx, route, PluginArgument::Piece(0..at, &mut piece)).await?;
            if let Some(instead) = ReplacementResponse::of(decision) {
                return Err(instead);
            }
        }
        if ctx.upload.read.max(body.len() + piece.bytes.len()) > limit {
            return Err(Failure::BodyTooLarge.into());
        }
        body.extend_from_slice(&piece.bytes);
    }
    Ok(body.freeze())
}

/// Passes the whole body through the plugins at these positions.
async fn pass_whole(
    session: &mut Session,
    ctx: &mut Context,
    route: &Arc<Route>,
    positions: Range<usize>,
    bytes: Bytes,
) -> std::result::Result<Bytes, ReplacementResponse> {
    let mut piece = Piece { bytes, last: true };
    let decision = show(session, ctx, route, PluginArgument::Piece(positions, &mut piece)).await?;
    ReplacementResponse::of(decision).map_or(Ok(piece.bytes), Err)
}

/// # Errors
/// [`Failure::ClientGone`] when the client disconnects while a plugin waits.
async fn show(
    session: &mut Session,
    ctx: &mut Context,
    route: &Arc<Route>,
    what: PluginArgument<'_>,
) -> std::result::Result<Decision, Failure> {
    // The client may disconnect while a plugin waits.
    let watch = if route.chain.may_wait() { session.watch() } else { None };
    let head = session.request_mut();
    // Cloned, since plugins read both while they change the fields.
    let (method, uri) = (Method::clone(&head.method), head.uri.clone());
    let line = RequestLine { method: &method, uri: &uri };
    let mut fields = RequestFields(head);
    let mut exchange = ctx.exchange(route, line, &mut fields);
    let decision = async {
        match what {
            PluginArgument::Head(from) => route.chain.request_headers_from(from, &mut exchange).await,
            PluginArgument::Piece(positions, piece) => {
                route.chain.request_body(positions, &mut exchange, piece).await
            }
            PluginArgument::Whole(at, piece) => route.chain.whole_body(at, &mut exchange, piece).await,
        }
    };
    client_disconnect::until_disconnect(watch, decision).await
}

/// The framing of the body for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum OutgoingBody {
    /// As the client framed it.
    AsReceived,
    /// A buffered body with this length.
    Length(usize),
    /// A buffered body without a byte, of a request that announced none.
    Empty,
    /// Plugins may still change its length.
    UnknownLength,
}

/// Decides the framing of the body for an attempt, which begins now.
pub(in crate::proxy) fn outgoing_body(received: &HeaderMap, ctx: &mut Context) -> OutgoingBody {
    ctx.upload.is_sent = false;
    if let Some(whole) = &ctx.upload.whole {
        let is_announced = received.contains_key(header::CONTENT_LENGTH) || ctx.upload.read > 0;
        return match whole.len() {
            0 if !is_announced => OutgoingBody::Empty,
            length => OutgoingBody::Length(length),
        };
    }
    let wanted = ctx.route.as_ref().is_some_and(|route| route.chain.wants_request_body(0, &ctx.running));
    ctx.upload.shown = wanted && ctx.received.body != BodyLength::Empty;
    if !ctx.upload.shown {
        return OutgoingBody::AsReceived;
    }
    ctx.upload.again = !matches!(ctx.upload.passed, BodyProgress::Nothing);
    match ctx.route.as_ref().is_some_and(|route| route.chain.may_change_request_body(&ctx.running)) {
        true => OutgoingBody::UnknownLength,
        false => OutgoingBody::AsReceived,
    }
}

/// Sets the fields of that framing in a header for Pingora, which uses chunked coding without a length.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn frame(head: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    match outgoing_body(&head.headers, ctx) {
        OutgoingBody::AsReceived => {}
        OutgoingBody::Empty => {
            head.remove_header(&header::TRANSFER_ENCODING);
        }
        OutgoingBody::Length(length) => {
            head.remove_header(&header::TRANSFER_ENCODING);
            head.insert_header(header::CONTENT_LENGTH, length)?;
        }
        OutgoingBody::UnknownLength => {
            head.remove_header(&header::CONTENT_LENGTH);
        }
    }
    Ok(())
}

/// Passes a chunk of the body on its way to the backend through the plugins, if any see it.
///
/// # Errors
/// As [`pass`], and at the end of a body that the backend must not receive.
pub(in crate::proxy) async fn filter(
    session: &mut Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Context,
) -> Result<()> {
    if ctx.upload.is_cut_off {
        drop_late(body, end)?;
    } else if ctx.upload.is_plain() {
        pass_plain(body, end);
    } else {
        pass(session, body, end, ctx).await?;
    }
    ctx.upload.is_sent |= end;
    // What is sent to the backend gives it its time anew.
    session.control().hear();
    Ok(())
}

/// Passes a chunk of the body on its way to the backend.
///
/// # Errors
/// When a plugin responded or failed; the context has the response.
async fn pass(session: &mut Session, body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    if let Some(whole) = &ctx.upload.whole {
        // The session passes no byte of a body that was buffered; this is the only call for it.
        *body = Some(whole.clone()).filter(|whole| !whole.is_empty());
        return Ok(());
    }
    let Some(route) = ctx.route.clone() else { return Ok(()) };
    let bytes = if std::mem::take(&mut ctx.upload.again) {
        ctx.upload.passed.all()
    } else {
        // If this future is dropped before the end, the chunk was processed in part.
        let passed = std::mem::replace(&mut ctx.upload.passed, BodyProgress::Lost);
        let mut piece = Piece { bytes: body.take().unwrap_or_default(), last: end };
        let decision = show(session, ctx, &route, PluginArgument::Piece(0..usize::MAX, &mut piece)).await;
        if let Some(instead) = decision.map_or_else(|gone| Some(gone.into()), ReplacementResponse::of) {
            ctx.response.instead = Some(instead);
            // For an error of another side, Pingora would continue to wait for an HTTP/2 backend.
            return Err(Error::new_down(OURS));
        }
        ctx.upload.passed = passed.and(&piece.bytes);
        piece.bytes
    };
    // `None` is the end to Pingora, and an empty last chunk would write a second end.
    *body = Some(bytes).filter(|bytes| !(end && bytes.is_empty()));
    Ok(())
}

/// Discards a chunk that was read before an early response.
///
/// # Errors
/// At the end of the body, which the backend must not receive: its connection is closed.
fn drop_late(body: &mut Option<Bytes>, end: bool) -> Result<()> {
    if end {
        return Err(Error::new(OURS));
    }
    // `None` would be the end to Pingora.
    *body = Some(Bytes::new());
    Ok(())
}

/// Passes a chunk of a body without plugins. An HTTP/2 body may end with an empty chunk, which HTTP/1 would
/// write as a second end.
fn pass_plain(body: &mut Option<Bytes>, end: bool) {
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
}
