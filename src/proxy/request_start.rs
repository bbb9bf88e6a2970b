//! The first phases of a request: facts, validation, routing, plugins, and the start of a WebSocket.

use super::Gateway;
use super::body::request_body;
use super::context::Context;
use super::downstream::session_control::SessionControl;
use super::downstream::session_lookup::{self, connection};
use super::downstream::session_timeouts::configure_session;
use super::exchange;
use super::failure::{Detail, Failure};
use super::request::field_cleaning::clean;
use super::request::h1_head::SentHead;
use super::request::request_facts::{Form, Received, RequestLine};
use super::request::{extended_connect, h2_to_h1, request_validation};
use super::response::{acme_http01, local_response};
use super::websocket::upgrade;
use crate::config::{EscapedSlashes, MergeSlashes, PathParameters, XForwarded};
use crate::net::http1::message_framing::Reading;
use crate::route::{BadTarget, RequestMatch, Target};
use crate::websocket::handshake::HandshakeError;
use http::{Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::Arc;

/// The texts of rejected paths that a setting would allow.
const ESCAPED_SLASH: Detail = Detail(
    "the path has an escaped slash or a backslash; `escaped_slashes: match` of the route or server allows it",
);
const PARAMETERS: Detail =
    Detail("the path has parameters; `path_parameters: ignore` of the route allows them");

/// Pins the generation, and determines the facts of a received header.
pub(super) fn open(gateway: &Gateway, session: &mut Session, ctx: &mut Context) {
    let snapshot = gateway.shared.live.pin();
    let mut form = Form::Http1;
    let sent = take_sent(session);
    if session.req_header().version == Version::HTTP_2 {
        ctx.refused = session_lookup::control(session).and_then(SessionControl::refused);
        ctx.head_size = h2_to_h1::size(session.req_header());
        // Invalid field values are rejected with the rest of the header.
        let extended = extended_connect::arrive(session.req_header_mut()).unwrap_or_default();
        let ended = session.as_downstream_mut().is_body_empty();
        h2_to_h1::make(session.req_header_mut(), ended || extended);
        form = if extended { Form::ExtendedConnect } else { Form::Http2 { ended } };
    }
    if let (Some(connection), Some(session)) = (connection(session), session.as_downstream().as_http1()) {
        ctx.head_size = connection.head_size();
        let size = session.get_headers_raw_bytes().len();
        if connection.compare(size, &session.req_header().headers) == Reading::Doubtful {
            // A body received with its header may be malformed.
            let framing = connection.is_broken();
            let why = if framing { "the body violates its framing" } else { "the header is ambiguous" };
            ctx.refused = Some(Failure::BadRequest(Detail(why)));
        }
    }
    let (mut sent_target, mut has_no_method) = (None, false);
    if let Some(sent) = sent {
        ctx.refused = sent.refused.or(ctx.refused);
        (sent_target, has_no_method) = (sent.target, sent.has_no_method);
        for (name, value) in sent.fields {
            // The names were parsed by the same rules.
            let _ = session.req_header_mut().append_header(name, value);
        }
    }
    let conn_info = session_lookup::conn_info(session.as_downstream());
    ctx.received = Received::new(session.req_header(), form, conn_info, &snapshot.globals);
    (ctx.received.sent_target, ctx.received.has_no_method) = (sent_target, has_no_method);
    configure_session(session.as_downstream_mut(), &snapshot.globals);
    // Pingora would keep an idle connection forever from its second request on.
    if session.get_keepalive().is_some() {
        session.set_keepalive(gateway.keepalive());
    }
    ctx.snapshot = Some(snapshot);
}

/// The received header, if Pingora's parser got another one.
fn take_sent(session: &Session) -> Option<Box<SentHead>> {
    connection(session)?.take_sent()
}

/// Validates the request, selects the route, runs its plugins, and serves a WebSocket handshake.
/// Returns whether a response was sent.
///
/// # Errors
/// When the client disconnected.
pub(super) async fn route(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<bool> {
    if let Some(shown) = acme_http01::wanted(session, ctx) {
        acme_http01::show(session, ctx, &shown).await?;
        return Ok(true);
    }
    // Evaluated before a `Connection` can remove the field.
    let ends_here = request_validation::ends_here(session.req_header());
    let found = match check(session, ctx) {
        Ok(()) => {
            let policy =
                ctx.snapshot.as_ref().map_or(XForwarded::Add, |snapshot| snapshot.globals.x_forwarded);
            clean(session.req_header_mut(), &ctx.received, policy)?;
            find(session, ctx)
        }
        refused => refused,
    };
    if let Err(failure) = found {
        local_response::failure(session, ctx, failure).await?;
        return Ok(true);
    }
    if let Some(instead) = request_body::ask_plugins(session, ctx).await {
        local_response::instead(session, ctx, instead).await?;
        return Ok(true);
    }
    // Applied after the plugins: access rules come first.
    if ends_here {
        local_response::send(session, ctx, ResponseHeader::build(StatusCode::NO_CONTENT, None)?, "").await?;
        return Ok(true);
    }
    match ctx.received.handshake {
        Ok(handshake) => {
            // Everything written here goes to the client, so a write error is its disconnect.
            let served = upgrade::serve(gateway, session, ctx, handshake).await;
            if served.is_err() {
                ctx.failure = Some(Failure::ClientGone);
            }
            served?;
        }
        // An ordinary request, whose Upgrade is not forwarded.
        Err(HandshakeError::NotWebSocket) => {
            if !exchange::serves(session, ctx) {
                // Pingora's loop serves HTTP/2 upstreams.
                return Ok(false);
            }
            exchange::serve(session, ctx).await?;
        }
        Err(HandshakeError::Version) => {
            local_response::failure(session, ctx, Failure::WebSocketVersion).await?;
        }
        Err(HandshakeError::Bad(detail)) => {
            local_response::failure(session, ctx, Failure::BadWebSocketRequest(Detail(detail))).await?;
        }
    }
    Ok(true)
}

/// Validates the header and interprets the target.
fn check(session: &mut Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let globals = &ctx.snapshot.as_ref().ok_or(Failure::Internal)?.globals;
    if let Some(refused) = ctx.refused {
        session.set_keepalive(None);
        return Err(refused);
    }
    if ctx.head_size > globals.max_header_size {
        return Err(Failure::HeadTooLarge);
    }
    if ctx.received.way.is_loop() {
        return Err(Failure::LoopDetected);
    }
    let head = session.req_header();
    request_validation::check(head)?;
    let host = match head.headers.get(header::HOST) {
        Some(host) => Some(host.to_str().map_err(|_| BadTarget::Host)?),
        None => None,
    };
    let sent = ctx.received.sent_target.clone();
    let raw = sent.as_deref().unwrap_or(head.raw_path());
    let target = Target::parse(raw, &head.method, host)?;
    ctx.received.set_target(&target);
    // RFC 9112 §3.2.2: the authority of an absolute target replaces Host, for the gateway and the backend.
    let authority = target.authority().map(|authority| authority.as_str()).filter(|own| host != Some(*own));
    if let Some(authority) = authority.map(str::to_owned) {
        session.req_header_mut().insert_header(header::HOST, authority).map_err(|_| BadTarget::Host)?;
    }
    Ok(())
}

/// Finds the route.
fn find(session: &Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let snapshot = ctx.snapshot.as_ref().ok_or(Failure::Internal)?;
    let head = session.req_header();
    let request = ctx.received.request(RequestLine::of(head), ctx.listener(), "");
    let path_with_parameters = ctx.received.path_with_parameters(&head.uri);
    let found = snapshot.table.find(&RequestMatch { request, path_with_parameters, headers: &head.headers });
    let route = Arc::clone(found.ok_or(Failure::NoRoute)?);
    match route.path_parameters {
        PathParameters::Ignore => {}
        PathParameters::Reject if ctx.received.has_path_parameters() => {
            ctx.route = Some(route);
            return Err(Failure::AmbiguousPath(PARAMETERS));
        }
        PathParameters::Reject => {}
        PathParameters::Keep => {
            ctx.received.keep_path_parameters();
            ctx.running.keep_path_parameters();
        }
    }
    if let Some(control) = session_lookup::control(session) {
        control.on_client_close(route.on_client_close);
    }
    let escaped_slashes = route.escaped_slashes.unwrap_or(snapshot.globals.escaped_slashes);
    if escaped_slashes == EscapedSlashes::Reject && ctx.received.has_escaped_slash {
        ctx.route = Some(route);
        return Err(Failure::AmbiguousPath(ESCAPED_SLASH));
    }
    if route.merge_slashes.unwrap_or(snapshot.globals.merge_slashes) == MergeSlashes::Rewrite {
        ctx.received.merge_slashes(&head.uri);
    }
    let allows_trace = route.allows_trace;
    ctx.route = Some(route);
    // A backend that echoes a TRACE reveals fields added by gateway and plugins.
    if head.method == Method::TRACE && !allows_trace {
        return Err(Failure::MethodNotAllowed);
    }
    Ok(())
}
