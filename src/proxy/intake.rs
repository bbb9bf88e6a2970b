//! A request's first steps: whose it is, what it asks for, which route takes it, and what
//! becomes of it there.

use super::boundary::Reading;
use super::connection::Connection;
use super::context::Context;
use super::exchange::{scheme, scheme_is_certain};
use super::failure::Failure;
use super::{
    Gateway, admission, arrival, connect, forward, plain, proof, respond, strangers, upload, websocket,
};
use crate::route::{Head, Target};
use crate::snapshot::Terms;
use crate::spec::{PathParameters, XForwarded};
use crate::tunnel::handshake::{self, Refusal};
use http::{Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::sync::Arc;

/// The head is read: the connection learns it, and the generation is pinned.
pub(super) fn open(gateway: &Gateway, session: &mut Session, ctx: &mut Context) {
    let snapshot = gateway.shared.live.pin();
    if session.req_header().version == Version::HTTP_2 {
        ctx.h2 = true;
        ctx.head_size = plain::size(session.req_header());
        // What would be no field value is refused with the rest of the head.
        ctx.extended = connect::arrive(session.req_header_mut()).unwrap_or_default();
        // What comes behind an extended CONNECT is no body.
        let bodiless = ctx.extended || session.as_downstream_mut().is_body_empty();
        plain::make(session.req_header_mut(), bodiless);
    } else if let Some(session) = session.as_downstream().as_http1() {
        ctx.head_size = session.get_headers_raw_bytes().len();
    }
    if let Some(connection) = connection(session) {
        ctx.doubtful = connection.compare(ctx.head_size, &session.req_header().headers) == Reading::Doubtful;
    }
    if let Some(arrival) = arrival::of(session.as_downstream()) {
        ctx.peer = arrival.peer.ip().to_canonical();
        ctx.listener = arrival.listener;
        ctx.tls = arrival.tls.clone();
    }
    ctx.trusted = snapshot.terms.trusts(ctx.peer);
    ctx.client = if ctx.trusted {
        forward::client(&session.req_header().headers, ctx.peer, |hop| snapshot.terms.trusts(hop))
    } else {
        ctx.peer
    };
    settle(session.as_downstream_mut(), &snapshot.terms);
    // RFC 9110 §10.1.1: an Expect of HTTP/1.0 means nothing.
    if session.req_header().version == Version::HTTP_10 {
        session.req_header_mut().remove_header(&header::EXPECT);
    }
    // Pingora would keep an idle connection for ever from its second request on.
    if session.get_keepalive().is_some() {
        session.set_keepalive(gateway.keepalive());
    }
    ctx.snapshot = Some(snapshot);
}

/// How patient the session is, and what its client understands.
pub(super) fn settle(session: &mut ServerSession, terms: &Terms) {
    // A client may end its direction behind its request and still wants the answer (RFC 9112 §9.6).
    // One that is gone is noticed when the answer is written.
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
    if let Err(failure) = find(session, ctx) {
        respond::failure(session, ctx, failure).await?;
        return Ok(true);
    }
    // Asked before a `Connection` can take the field away, acted upon behind the plugins: access rules come first.
    let ends_here = admission::ends_here(session.req_header());
    forward::end_nominated(session.req_header_mut())?;
    let policy = ctx.snapshot.as_ref().map_or(XForwarded::Add, |snapshot| snapshot.terms.x_forwarded);
    strangers::end(session.req_header_mut(), ctx.trusted, policy);
    if let Some(instead) = upload::ask_plugins(session, ctx).await {
        respond::instead(session, ctx, instead).await?;
        return Ok(true);
    }
    if ends_here {
        respond::send(session, ctx, ResponseHeader::build(StatusCode::NO_CONTENT, None)?, "").await?;
        return Ok(true);
    }
    let head = session.req_header();
    let checked = if ctx.extended {
        handshake::check_stream(&head.headers)
    } else if head.headers.contains_key(header::UPGRADE) {
        handshake::check(&head.method, head.version, &head.headers)
    } else {
        return Ok(false);
    };
    match checked {
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

/// Reads the target in its one meaning and finds the route.
fn find(session: &mut Session, ctx: &mut Context) -> std::result::Result<(), Failure> {
    let snapshot = Arc::clone(ctx.snapshot.as_ref().ok_or(Failure::Internal)?);
    // The parser mends what is not a target (RFC 9112 §3.2); a client that sends it is told instead.
    if ctx.doubtful {
        return Err(Failure::BadRequest);
    }
    if ctx.head_size > snapshot.terms.max_request_head {
        return Err(Failure::HeadTooLarge);
    }
    let head = session.req_header();
    admission::check(head)?;
    let host = match head.headers.get(header::HOST) {
        Some(host) => Some(host.to_str().map_err(|_| Failure::BadRequest)?),
        None => None,
    };
    let raw = head.raw_path();
    let target = Target::parse(raw, &head.method, host, snapshot.terms.target).map_err(Failure::from)?;
    let listener = snapshot.listeners.get(usize::from(ctx.listener)).map_or("", |listener| &*listener.name);
    let found = snapshot.table.find(&Head {
        host: target.host(),
        path: target.bare_path(),
        forwarded_path: target.path(),
        query: target.query(),
        method: &head.method,
        headers: &head.headers,
        listener,
        scheme: scheme(ctx, &head.headers),
        scheme_is_certain: scheme_is_certain(ctx, &head.headers),
        version: head.version,
        client: ctx.client,
        peer: ctx.peer,
        tls: ctx.tls.as_deref(),
    });
    ctx.route = found.cloned();
    ctx.host.push_str(target.host().unwrap_or_default());
    let parameters = found.map(|route| route.path_parameters);
    match parameters {
        Some(PathParameters::Reject) if target.has_parameters() => return Err(Failure::AmbiguousPath),
        Some(PathParameters::Keep) => ctx.running.keep_path_parameters(),
        _ if target.has_parameters() => ctx.matched = Some(target.bare_path().to_owned()),
        _ => {}
    }
    if target.is_rewritten() {
        ctx.rewritten = Some(target.forwarded().to_owned());
    }
    // RFC 9112 §3.2.2: the authority of an absolute target replaces Host, for us and for the backend.
    let authority = target.authority().map(|authority| authority.as_str()).filter(|own| host != Some(*own));
    if let Some(authority) = authority.map(str::to_owned) {
        session.req_header_mut().insert_header(header::HOST, authority).map_err(|_| Failure::BadRequest)?;
    }
    let route = ctx.route.as_ref().ok_or(Failure::NoRoute)?;
    // A backend that echoes it shows fields that gateway and plugins added.
    if session.req_header().method == Method::TRACE && !route.allows_trace {
        return Err(Failure::MethodNotAllowed);
    }
    Ok(())
}
