//! The first phases of a request: facts, validation, routing, plugins, and the start of a WebSocket.

use super::Gateway;
use super::body::request_body;
use super::context::{Busy, Context};
use super::downstream::session::Session;
use super::exchange::{self, Exchanged};
use super::failure::{Detail, Failure};
use super::request::field_cleaning::clean;
use super::request::request_facts::{Form, Received, RequestLine};
use super::request::{extended_connect, h2_to_h1, request_validation};
use super::request_trace::RequestTrace;
use super::response::{acme_http01, local_response};
use super::upgrades::raw_tunnel_start::RawTunnelStart;
use super::upgrades::{self, ServedUpgrade};
use super::websocket::tunnel_task::TunnelStart;
use super::websocket::upgrade::{self, ServedHandshake};
use crate::config::{EscapedSlashes, MergeSlashes, PathParameters};
use crate::route::{BadTarget, RequestMatch, Target};
use crate::websocket::handshake::HandshakeError;
use http::{Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use std::sync::Arc;

/// The texts of rejected paths that a setting would allow.
const ESCAPED_SLASH: Detail = Detail(
    "the path has an escaped slash or a backslash; `escaped_slashes: match` of the route or server allows it",
);
const PARAMETERS: Detail =
    Detail("the path has parameters; `path_parameters: ignore` of the route allows them");

/// Pins the generation, and determines the facts of a received header.
pub(super) fn open(gateway: &Gateway, session: &mut Session) -> Context {
    let snapshot = gateway.shared.live.pin();
    let globals = &snapshot.globals;
    let mut form = Form::Http1;
    let mut parts = session.take_received();
    if session.is_http2() {
        parts.size = h2_to_h1::size(session.request());
        // Invalid field values are rejected with the rest of the header.
        let extended = extended_connect::arrive(session.request_mut()).unwrap_or_default();
        let ended = session.is_body_empty();
        h2_to_h1::make(session.request_mut(), ended || extended);
        form = if extended { Form::ExtendedConnect } else { Form::Http2 { ended } };
    }
    let mut received = Received::new(session.request(), form, Some(session.conn_info()), globals);
    received.parts = parts;
    session.set_limits(globals);
    if globals.keepalive_timeout.is_zero() || gateway.shared.is_draining() {
        session.close_after_response();
    }
    let mut ctx = Context::new(snapshot, Busy::new(&gateway.busy), Arc::clone(&gateway.shared.services));
    if let Some(tracer) = &ctx.snapshot.tracer {
        let trace = RequestTrace::begin(tracer, &session.request().headers, received.is_trusted, ctx.started);
        if trace.sampled().is_some() {
            ctx.running.record_calls();
        }
        ctx.trace = Some(trace);
    }
    ctx.received = received;
    ctx
}

/// What serves a routed request.
pub(super) enum Served {
    /// A response was sent.
    Response,
    /// The connection becomes a tunnel.
    Tunnel(Box<TunnelStart>),
    /// The connection becomes a raw relay.
    Upgraded(Box<RawTunnelStart>),
    /// Pingora's loop has to serve it: the backend uses HTTP/2.
    WithPingora,
}

/// Validates the request, selects the route, runs its plugins, and serves it.
///
/// # Errors
/// When the client disconnected.
pub(super) async fn route(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<Served> {
    if let Some(shown) = acme_http01::wanted(session, ctx) {
        Box::pin(acme_http01::show(session, ctx, &shown)).await?;
        return Ok(Served::Response);
    }
    // Evaluated before a `Connection` can remove the field.
    let ends_here = request_validation::ends_here(session.request());
    let found = match check(session, ctx) {
        Ok(()) => {
            let policy = ctx.snapshot.globals.x_forwarded;
            ctx.received.nominated = clean(session.request_mut(), &ctx.received, policy)?;
            find(session, ctx)
        }
        refused => refused,
    };
    if let Err(failure) = found {
        Box::pin(local_response::failure(session, ctx, failure)).await?;
        return Ok(Served::Response);
    }
    find_upgrade(session, ctx);
    if let Some(instead) = request_body::ask_plugins(session, ctx).await {
        Box::pin(local_response::instead(session, ctx, instead)).await?;
        return Ok(Served::Response);
    }
    // Applied after the plugins: access rules come first.
    if ends_here {
        let head = ResponseHeader::build(StatusCode::NO_CONTENT, None)?;
        Box::pin(local_response::send(session, ctx, head, "")).await?;
        return Ok(Served::Response);
    }
    match ctx.received.handshake {
        Ok(handshake) => {
            // Everything written here goes to the client, so a write error is its disconnect.
            let served = upgrade::serve(gateway, session, ctx, handshake).await;
            if served.is_err() {
                ctx.failure = Some(Failure::ClientGone);
            }
            match served? {
                ServedHandshake::Response => {}
                ServedHandshake::Tunnel(tunnel) => return Ok(Served::Tunnel(tunnel)),
                ServedHandshake::Refused(connection) => {
                    Box::pin(exchange::pass_on(session, ctx, connection)).await?;
                }
            }
        }
        // An ordinary request, whose Upgrade is forwarded as far as its route lists it.
        Err(HandshakeError::NotWebSocket) => {
            keep_upgrade(session, ctx);
            exchange::choose_protocol(session, ctx);
            if ctx.upgrade.is_some() {
                match Box::pin(upgrades::serve(gateway, session, ctx)).await? {
                    ServedUpgrade::Response => return Ok(Served::Response),
                    ServedUpgrade::Relay(start) => return Ok(Served::Upgraded(start)),
                    ServedUpgrade::NeedsHttp2 => return Ok(Served::WithPingora),
                }
            }
            if matches!(exchange::serve(session, ctx).await?, Exchanged::NeedsHttp2) {
                return Ok(Served::WithPingora);
            }
        }
        Err(HandshakeError::Version) => {
            Box::pin(local_response::failure(session, ctx, Failure::WebSocketVersion)).await?;
        }
        Err(HandshakeError::Bad(detail)) => {
            let failure = Failure::BadWebSocketRequest(Detail(detail));
            Box::pin(local_response::failure(session, ctx, failure)).await?;
        }
    }
    Ok(Served::Response)
}

/// Finds the protocols that the request offers besides WebSocket, and that its route lists. Bytes after such a request may
/// belong to one of them, even if it is refused: they must not be read as requests.
fn find_upgrade(session: &mut Session, ctx: &mut Context) {
    let Some(route) = &ctx.route else { return };
    let is_possible = !route.upgrades.is_empty()
        && ctx.received.version == Version::HTTP_11
        && ctx.received.handshake == Err(HandshakeError::NotWebSocket);
    if is_possible {
        ctx.upgrade = route.upgrades.offered(&session.request().headers).map(Box::new);
        if ctx.upgrade.is_some() {
            session.refuse_more();
        }
    }
}

/// Finds them again after the plugins, which may have changed the fields.
fn keep_upgrade(session: &Session, ctx: &mut Context) {
    if let (Some(route), Some(_)) = (&ctx.route, &ctx.upgrade) {
        ctx.upgrade = route.upgrades.offered(&session.request().headers).map(Box::new);
    }
}

/// Validates the header and interprets the target.
fn check(session: &mut Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    if let Some(refused) = ctx.received.parts.refused {
        session.close_after_response();
        return Err(refused);
    }
    if ctx.received.parts.size > ctx.snapshot.globals.request_limits.size {
        return Err(Failure::HeadTooLarge);
    }
    if ctx.received.way.is_loop() {
        return Err(Failure::LoopDetected);
    }
    let head = session.request();
    request_validation::check(head)?;
    let host = match head.headers.get(header::HOST) {
        Some(host) => Some(host.to_str().map_err(|_| BadTarget::Host)?),
        None => None,
    };
    let sent = ctx.received.parts.target.clone();
    let raw = sent.as_deref().unwrap_or(head.raw_path());
    let target = Target::parse(raw, &head.method, host)?;
    ctx.received.set_target(&target);
    // RFC 9112 §3.2.2: the authority of an absolute target replaces Host, for the gateway and the backend.
    let authority = target.authority().map(|authority| authority.as_str()).filter(|own| host != Some(*own));
    if let Some(authority) = authority.map(str::to_owned) {
        session.request_mut().insert_header(header::HOST, authority).map_err(|_| BadTarget::Host)?;
    }
    Ok(())
}

/// Finds the route.
fn find(session: &Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let snapshot = &ctx.snapshot;
    let head = session.request();
    let request = ctx.received.request(RequestLine::of(head), "");
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
    session.control().on_client_close(route.on_client_close);
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
