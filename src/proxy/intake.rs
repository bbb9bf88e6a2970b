//! A request's first steps: whose it is, what it asks for, which route takes it, and what
//! becomes of it there.

use super::boundary::Reading;
use super::connection::Connection;
use super::context::Context;
use super::failure::Failure;
use super::received::{Form, Line, Received};
use super::{
    Gateway, admission, arrival, connect, forward, plain, proof, respond, session_control, untrusted_headers,
    upload, websocket, x_forwarded,
};
use crate::route::{Head, Target};
use crate::snapshot::Terms;
use crate::spec::{PathParameters, XForwarded};
use crate::tunnel::handshake::Refusal;
use http::{Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::sync::Arc;

/// The head has been received: the generation is pinned, and what the head says is decided.
pub(super) fn open(gateway: &Gateway, session: &mut Session, ctx: &mut Context) {
    let snapshot = gateway.shared.live.pin();
    let mut form = Form::Http1;
    if session.req_header().version == Version::HTTP_2 {
        ctx.head_size = plain::size(session.req_header());
        // What would be no field value is refused with the rest of the head.
        let extended = connect::arrive(session.req_header_mut()).unwrap_or_default();
        let ended = session.as_downstream_mut().is_body_empty();
        plain::make(session.req_header_mut(), ended || extended);
        form = if extended { Form::ExtendedConnect } else { Form::Http2 { ended } };
    } else if let Some(session) = session.as_downstream().as_http1() {
        ctx.head_size = session.get_headers_raw_bytes().len();
    }
    if let Some(connection) = connection(session) {
        ctx.doubtful = connection.compare(ctx.head_size, &session.req_header().headers) == Reading::Doubtful;
    }
    let arrival = arrival::of(session.as_downstream());
    ctx.received = Received::new(session.req_header(), form, arrival, &snapshot.terms);
    settle(session.as_downstream_mut(), &snapshot.terms);
    // Pingora would keep an idle connection for ever from its second request on.
    if session.get_keepalive().is_some() {
        session.set_keepalive(gateway.keepalive());
    }
    ctx.snapshot = Some(snapshot);
}

/// How patient the session is, and what its client understands.
pub(super) fn settle(session: &mut ServerSession, terms: &Terms) {
    // Whether a client that ends its direction has left, its connection knows.
    session.set_abort_on_close(false);
    session.set_read_timeout(Some(terms.body_timeout));
    session.set_write_timeout(Some(terms.send_timeout));
    // RFC 9110 §15.2: HTTP/1.0 knows no interim answers.
    if session.req_header().version == Version::HTTP_10 {
        session.set_ignore_info_resp(true);
    }
}

/// The client's connection; none in place of one that became a WebSocket.
pub(super) fn connection(session: &Session) -> Option<&Connection> {
    session.stream().and_then(|stream| stream.as_any().downcast_ref::<Connection>())
}

/// Checks the request, finds its route, asks its plugins, and serves it when it is a WebSocket.
/// Returns whether it has been answered.
///
/// # Errors
/// When the client went away meanwhile.
pub(super) async fn route(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<bool> {
    if let Some(shown) = proof::wanted(session, ctx) {
        proof::show(session, ctx, &shown).await?;
        return Ok(true);
    }
    // Asked before a `Connection` can take the field away.
    let ends_here = admission::ends_here(session.req_header());
    let found = match check(session, ctx) {
        Ok(()) => {
            let policy = ctx.snapshot.as_ref().map_or(XForwarded::Add, |snapshot| snapshot.terms.x_forwarded);
            clean(session.req_header_mut(), &ctx.received, policy)?;
            find(session, ctx)
        }
        refused => refused,
    };
    if let Err(failure) = found {
        respond::failure(session, ctx, failure).await?;
        return Ok(true);
    }
    if let Some(instead) = upload::ask_plugins(session, ctx).await {
        respond::instead(session, ctx, instead).await?;
        return Ok(true);
    }
    // Acted upon after the plugins: access rules come first.
    if ends_here {
        respond::send(session, ctx, ResponseHeader::build(StatusCode::NO_CONTENT, None)?, "").await?;
        return Ok(true);
    }
    match ctx.received.handshake {
        Ok(handshake) => {
            // Whatever is written here goes to the client: who cannot be written to has left.
            let served = websocket::serve(gateway, session, ctx, handshake).await;
            if served.is_err() {
                ctx.failure = Some(Failure::ClientGone);
            }
            served?;
        }
        // Not for us to switch: an ordinary request, whose Upgrade goes no further.
        Err(Refusal::NotWebSocket) => return Ok(false),
        Err(Refusal::Version) => respond::failure(session, ctx, Failure::WebSocketVersion).await?,
        Err(Refusal::Bad(_)) => respond::failure(session, ctx, Failure::BadWebSocketRequest).await?,
    }
    Ok(true)
}

/// Checks the head, and reads the target in its one meaning.
fn check(session: &mut Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let terms = &ctx.snapshot.as_ref().ok_or(Failure::Internal)?.terms;
    // The parser mends what is not a target (RFC 9112 §3.2); a client that sends it is told instead.
    if ctx.doubtful {
        return Err(Failure::BadRequest);
    }
    if ctx.head_size > terms.max_request_head {
        return Err(Failure::HeadTooLarge);
    }
    let head = session.req_header();
    admission::check(head)?;
    let host = match head.headers.get(header::HOST) {
        Some(host) => Some(host.to_str().map_err(|_| Failure::BadRequest)?),
        None => None,
    };
    let target = Target::parse(head.raw_path(), &head.method, host, terms.target).map_err(Failure::from)?;
    ctx.received.set_target(&target);
    // RFC 9112 §3.2.2: the authority of an absolute target replaces Host, for us and for the backend.
    let authority = target.authority().map(|authority| authority.as_str()).filter(|own| host != Some(*own));
    if let Some(authority) = authority.map(str::to_owned) {
        session.req_header_mut().insert_header(header::HOST, authority).map_err(|_| Failure::BadRequest)?;
    }
    Ok(())
}

/// Removes what the client may not say, and brings X-Forwarded-* to what everybody gets, before an expression, a
/// plugin or an internal call reads a field.
///
/// # Errors
/// When a value cannot be a field value, which the parser has excluded.
pub(super) fn clean(head: &mut RequestHeader, received: &Received, policy: XForwarded) -> Result<()> {
    forward::end_nominated(head)?;
    untrusted_headers::remove(head, received.is_trusted, policy);
    x_forwarded::settle(head, received, policy)?;
    // The gateway answers an expectation itself, when it begins to read the body (RFC 9110 §10.1.1).
    head.remove_header(&header::EXPECT);
    Ok(())
}

/// Finds the route.
fn find(session: &Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let snapshot = ctx.snapshot.as_ref().ok_or(Failure::Internal)?;
    let head = session.req_header();
    let request = ctx.received.request(Line::of(head), ctx.listener(), "");
    let found = snapshot.table.find(&Head { request, headers: &head.headers });
    let route = Arc::clone(found.ok_or(Failure::NoRoute)?);
    match route.path_parameters {
        PathParameters::Ignore => {}
        PathParameters::Reject if ctx.received.has_path_parameters() => {
            ctx.route = Some(route);
            return Err(Failure::AmbiguousPath);
        }
        PathParameters::Reject => {}
        PathParameters::Keep => {
            ctx.received.keep_path_parameters();
            ctx.running.keep_path_parameters();
        }
    }
    if let Some(control) = session_control::of(session) {
        control.on_client_close(route.on_client_close);
    }
    let allows_trace = route.allows_trace;
    ctx.route = Some(route);
    // A backend that echoes it shows fields that gateway and plugins added.
    if head.method == Method::TRACE && !allows_trace {
        return Err(Failure::MethodNotAllowed);
    }
    Ok(())
}
