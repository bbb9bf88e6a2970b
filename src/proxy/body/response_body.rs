//! Response bodies: plugin phases, and the framing of a body that plugins or a changed status replace.

use crate::plugin::PluginFailure;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::{Failure, OURS};
use crate::proxy::request::request_facts::RequestLine;
use crate::snapshot::Route;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use moongate_sdk::{Piece, ReadOnlyHeaders};
use pingora::http::ResponseHeader;
use pingora::{Error, Result};
use std::sync::Arc;

/// Returns whether a response with this status has a body (RFC 9110 §6.4.1).
pub(in crate::proxy) fn has_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns whether a backend's response to this method has a body.
pub(in crate::proxy) fn has_response_body(method: &Method, head: &ResponseHeader) -> bool {
    let is_zero =
        |length: &HeaderValue| !length.is_empty() && length.as_bytes().iter().all(|digit| *digit == b'0');
    let empty = head.headers.get(header::CONTENT_LENGTH).is_some_and(is_zero);
    has_body(method, head.status) && (!empty || head.headers.contains_key(header::TRANSFER_ENCODING))
}

/// Sets the framing of a backend's response body after the plugins' header phase; `comes` is whether the
/// backend sends one. A body that plugins may still change has no length yet.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn frame(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
    comes: bool,
) -> Result<()> {
    let (method, version) = (&session.request().method, session.request().version);
    let goes = has_body(method, head.status);
    let wanted = ctx.route.as_ref().is_some_and(|route| route.chain.wants_response_body(&ctx.running));
    ctx.response.plugins_see_body = wanted && comes && goes;
    if set_framing(head, version, wanted, (comes, goes))? {
        session.close_after_response();
    }
    Ok(())
}

/// Sets the fields that frame a body, for a client with this version; plugins may change the body if it is `wanted`, and
/// `comes` and `goes` are whether the backend sends one and the client gets one. Returns whether the connection has to
/// end after the response.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn set_framing(
    head: &mut ResponseHeader,
    version: Version,
    wanted: bool,
    (comes, goes): (bool, bool),
) -> Result<bool> {
    if version == Version::HTTP_10 || (goes && !comes) {
        // Only a body in chunks has trailers.
        head.remove_header(&header::TRAILER);
    }
    if head.status == StatusCode::NO_CONTENT {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
    } else if goes && !comes {
        // The client expects a body that the backend does not send.
        head.remove_header(&header::TRANSFER_ENCODING);
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))?;
    } else if wanted {
        head.remove_header(&header::CONTENT_LENGTH);
        if goes && version == Version::HTTP_11 && !head.headers.contains_key(header::TRANSFER_ENCODING) {
            head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
    }
    if version != Version::HTTP_10 {
        return Ok(false);
    }
    // RFC 9112 §6.1: no transfer coding to HTTP/1.0, whose bodies end with their connection.
    head.remove_header(&header::TRANSFER_ENCODING);
    Ok(goes && !head.headers.contains_key(header::CONTENT_LENGTH))
}

/// Passes a chunk of a response body on its way to the client through the plugins, if any see it.
///
/// # Errors
/// As [`pass`].
pub(in crate::proxy) fn filter(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Context,
) -> Result<()> {
    // Also where plugins leave nothing of it for the client.
    session.control().hear();
    if ctx.response.is_replaced || ctx.response.plugins_see_body {
        pass(session, body, end, ctx)?;
    }
    Ok(())
}

/// Passes a chunk of a response body on its way to the client.
///
/// # Errors
/// When a plugin with `on_error: closed` failed.
pub(in crate::proxy) fn pass(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Context,
) -> Result<()> {
    let bytes = body.take().unwrap_or_default();
    if ctx.response.is_replaced {
        return Ok(());
    }
    let Some(route) = ctx.route.clone() else { return Ok(()) };
    let mut piece = Piece { bytes, last: end };
    if show(session, ctx, &route, &mut piece).is_err() {
        ctx.failure = Some(Failure::Plugin);
        return Err(Error::new(OURS));
    }
    *body = Some(piece.bytes).filter(|bytes| !bytes.is_empty());
    Ok(())
}

/// Passes the whole body of a response made by the gateway or a plugin.
///
/// # Errors
/// As [`pass`].
pub(in crate::proxy) fn pass_whole(
    session: &Session,
    ctx: &mut Context,
    bytes: Bytes,
) -> std::result::Result<Bytes, PluginFailure> {
    let wanted = ctx.route.clone().filter(|route| route.chain.wants_response_body(&ctx.running));
    let Some(route) = wanted.filter(|_| !bytes.is_empty()) else { return Ok(bytes) };
    let mut piece = Piece { bytes, last: true };
    show(session, ctx, &route, &mut piece)?;
    Ok(piece.bytes)
}

fn show(
    session: &Session,
    ctx: &mut Context,
    route: &Arc<Route>,
    piece: &mut Piece,
) -> std::result::Result<(), PluginFailure> {
    let head = session.request();
    let mut seen = ReadOnlyHeaders(&head.headers);
    let mut exchange = ctx.exchange(route, RequestLine::of(head), &mut seen);
    route.chain.response_body(&mut exchange, piece)
}
