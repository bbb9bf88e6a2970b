//! WebSocket handshake: validates the client's request, tries endpoints, and joins the two connections to a
//! tunnel. Up to the 101 it is HTTP, and all settings of the route apply.

use super::handshake_attempt::HandshakeAttempt;
use super::tunnel_log::{CloseLogFields, Origin};
use super::tunnel_task::TunnelStart;
use super::websocket_plugins::TunnelPlugins;
use super::{redial, tunnel_admission};
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::InterimHead;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::failed_attempt::FailedAttempt;
use crate::proxy::failure::{Detail, Failure};
use crate::proxy::request::request_facts::RequestLine;
use crate::proxy::response::{local_response, request_end, response_head};
use crate::proxy::tracing::client_span;
use crate::proxy::tracing::websocket_span::WebSocketTrace;
use crate::proxy::{Gateway, attempt};
use crate::telemetry::traces::TRACEPARENT;
use crate::tunnel::{Permit, TunnelIo};
use crate::upstream::{Http1Connection, ProxyAddrs, UpstreamStream};
use crate::websocket::handshake::{self, Extensions, Handshake, HandshakeResponse, NextResponse, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use std::pin::pin;
use std::time::Duration;

/// What follows a handshake.
pub(in crate::proxy) enum ServedHandshake {
    /// The gateway has responded.
    Response,
    /// The client's connection becomes this tunnel.
    Tunnel(Box<TunnelStart>),
    /// The backend has responded with another status than 101, and the connection continues with HTTP.
    Refused(Box<Http1Connection>),
}

/// Serves a handshake.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn serve(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
    handshake: Handshake,
) -> Result<ServedHandshake> {
    match attempt_all(gateway, session, ctx, &handshake).await {
        Ok((permit, request, stream, HandshakeResponse::Upgraded { headers, names, early })) => {
            let ends = attempt::ends(session, ctx);
            let tunnel_io = TunnelIo::from(stream);
            let backend = Backend { permit, tunnel_io, names, early, request, ends };
            return open(gateway, session, ctx, headers, backend).await;
        }
        // It would open a WebSocket to an HTTP/2 client.
        Ok((_, _, _, HandshakeResponse::Other { status: 200..300, .. }))
            if ctx.received.is_extended_connect =>
        {
            Box::pin(local_response::failure(session, ctx, Failure::BadHandshake)).await?;
        }
        Ok((_, _, stream, HandshakeResponse::Other { read, .. })) => {
            let addrs = attempt::ends(session, ctx);
            return Ok(ServedHandshake::Refused(Box::new(Http1Connection::resume(stream, addrs, read))));
        }
        Err(failure) => Box::pin(local_response::failure(session, ctx, failure)).await?,
    }
    Ok(ServedHandshake::Response)
}

async fn attempt_all(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
    handshake: &Handshake,
) -> std::result::Result<(Permit, Request, UpstreamStream, HandshakeResponse), Failure> {
    let permit = tunnel_admission::admit(gateway, session, ctx).await?;
    let mut request = request(session, ctx, handshake)?;
    let (stream, answer) = ask(session, ctx, &mut request).await?;
    Ok((permit, request, stream, answer))
}

/// The backend's side of an accepted handshake.
struct Backend {
    permit: Permit,
    tunnel_io: TunnelIo,
    /// The names of the fields of its response.
    names: FieldNames,
    early: Bytes,
    /// The request, for a redial.
    request: Request,
    /// The addresses for the PROXY header, if one is sent.
    ends: ProxyAddrs,
}

/// The request for the backend, the same for every endpoint.
fn request(session: &Session, ctx: &Context, handshake: &Handshake) -> std::result::Result<Request, Failure> {
    let head = session.request();
    let mut fields = head.headers.clone();
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
    attempt::prepare_fields(&mut fields, ctx).map_err(|_| Failure::BadRequest(Detail("")))?;
    if ctx.route.as_ref().is_some_and(|route| route.chain.inspects_any()) {
        // Plugins cannot read messages that are compressed or changed by another extension.
        fields.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    if ctx.route.as_ref().is_some_and(|route| route.policy.reconnect.is_some()) {
        handshake::offer_portable(&mut fields);
    }
    let target = ctx.outgoing().map_or(head.raw_path(), str::as_bytes);
    let unknown = FieldNames::default();
    let names = session.field_names().unwrap_or(&unknown);
    handshake::write_request(target, fields, names, handshake).map_err(|_| Failure::BadRequest(Detail("")))
}

/// RFC 9110 §7.6.1, and the fields that §11.7.1 restricts to one hop.
const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("http2-settings"),
];

/// Tries endpoints until one responds. Failed connects and handshakes without a response are retried, since
/// no WebSocket exists before the 101.
async fn ask(
    session: &mut Session,
    ctx: &mut Context,
    request: &mut Request,
) -> std::result::Result<(UpstreamStream, HandshakeResponse), Failure> {
    loop {
        attempt::lease(session.request(), ctx).await?;
        if let Some(trace) = ctx.trace.as_ref().filter(|trace| trace.sampled().is_some()) {
            request.replace(&TRACEPARENT, &trace.outgoing().traceparent_bytes());
        }
        let Some(route) = &ctx.route else { return Err(Failure::Internal) };
        let ends = attempt::ends(session, ctx);
        let limit = route.policy.handshake_timeout.first(route.timeout);
        let unanswered = match attempt_once(session, ctx, request, ends, limit).await {
            Ok(found) => {
                ctx.attempts.record_connect();
                // The exchange records the latency of a response that it passes on.
                if matches!(found.1, HandshakeResponse::Upgraded { .. }) {
                    client_span::responded(ctx, StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11);
                    ctx.attempts.record_latency();
                }
                ctx.failure = None;
                return Ok(found);
            }
            Err(unanswered) => unanswered,
        };
        let failure = unanswered.failure;
        // An invalid 101 would be invalid at the next endpoint too.
        let is_repeatable = !matches!(
            failure,
            Failure::BadHandshake | Failure::NoResources | Failure::WebSocketOverH2c | Failure::ClientGone
        );
        if !attempt::end(ctx, unanswered, is_repeatable, false) {
            return Err(failure);
        }
    }
}

/// Sends the handshake to the leased endpoint, and its interim responses to the client.
async fn attempt_once(
    session: &mut Session,
    ctx: &mut Context,
    request: &Request,
    ends: ProxyAddrs,
    limit: Duration,
) -> std::result::Result<(UpstreamStream, HandshakeResponse), FailedAttempt> {
    let mut attempt = {
        // Pinned here, since space for an argument is reserved twice.
        let attempt = pin!(HandshakeAttempt::begin(&ctx.attempts, ends, request, limit));
        // The backend's connection ends with the attempt.
        client_disconnect::unless_session_ends(session, attempt).await??
    };
    loop {
        match client_disconnect::unless_session_ends(session, attempt.next(request)).await?? {
            NextResponse::Final(response) => return Ok((attempt.into_stream(), response)),
            NextResponse::Interim(InterimHead { mut head, names }) => {
                // Neither fails for an interim response, except for a client that left.
                let passed = match attempt::response_started(session, &mut head, ctx) {
                    Ok(()) => session.write_spelled_head(head, &names, false).await,
                    Err(error) => Err(error),
                };
                passed.map_err(|_| Failure::ClientGone)?;
            }
        }
    }
}

/// Both sides agreed: the client gets its 101 with the start of the tunnel, or its 200 here.
async fn open(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
    mut headers: HeaderMap,
    backend: Backend,
) -> Result<ServedHandshake> {
    let extensions = Extensions::of(&headers);
    let agreement = redial::agreement(ctx, &mut headers);
    let drain_moment = match response_head::finish_upgrade(session, &mut headers, ctx).await {
        Ok(moment) => moment,
        // The backend's connection ends here: its 101 is not forwarded.
        Err(instead) => {
            Box::pin(local_response::instead(session, ctx, instead)).await?;
            return Ok(ServedHandshake::Response);
        }
    };
    let origin = Origin::of(session.request(), &headers, ctx);
    let (Some(origin), Some(route)) = (origin, ctx.route.clone()) else {
        Box::pin(local_response::failure(session, ctx, Failure::Internal)).await?;
        return Ok(ServedHandshake::Response);
    };
    let mut switching = BytesMut::new();
    if ctx.received.is_extended_connect {
        accept_stream(session, &headers, backend.request.accept()).await?;
    } else {
        switching.reserve(256);
        handshake::write_switching(&mut switching, backend.request.accept(), &mut headers, &backend.names);
    }
    let handshake = ctx.started.elapsed();
    let trace = WebSocketTrace::open(&gateway.shared, session.request(), ctx, None);
    request_end::upgraded(session, ctx);
    let said = CloseLogFields::all(&request_end::notes(ctx));
    let client_key = tunnel_admission::message_key(session, ctx);
    let head = session.request();
    let plugins = TunnelPlugins::of(ctx, &route, RequestLine::of(head), &head.headers);
    let Some(lease) = ctx.attempts.take_lease() else { return Ok(ServedHandshake::Response) };
    Ok(ServedHandshake::Tunnel(Box::new(TunnelStart {
        origin,
        said,
        route,
        generation: ctx.snapshot.generation,
        lease,
        permit: backend.permit,
        backend: backend.tunnel_io,
        backend_early: backend.early,
        extensions,
        listener: ctx.listener().into(),
        again: agreement.map(|agreement| (backend.request, agreement, backend.ends)),
        client_key,
        switching: switching.into(),
        handshake,
        drain_moment,
        plugins,
        trace,
    })))
}

/// Opens the client's WebSocket: sends 200, with the fields of the backend's 101 that concern the WebSocket
/// and not the connection (RFC 8441 §5).
///
/// # Errors
/// When the client disconnected.
async fn accept_stream(session: &mut Session, fields: &HeaderMap, accept: &[u8; 28]) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(fields.len() + 2))?;
    // RFC 8441 has neither key nor accept, but a client that sends the one expects the other.
    if handshake::has_key(&session.request().headers) {
        head.append_header(header::SEC_WEBSOCKET_ACCEPT, &accept[..])?;
    }
    for (name, value) in handshake::end_to_end(fields) {
        head.append_header(name.clone(), value.clone())?;
    }
    session.write_head(head, false).await
}
