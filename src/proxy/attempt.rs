//! Attempts of a request at endpoints: selection of an endpoint, the upstream request, and the decision about
//! a retry.

use super::body::{early_response, expect_continue};
use super::context::Context;
use super::downstream::session::Session;
use super::failure::failed_attempt::{self, FailedAttempt};
use super::failure::{Failure, OURS};
use super::request::{grpc, hop_by_hop};
use super::tracing::client_span;
use crate::config::UpstreamProtocol;
use crate::upstream::{AttemptEnd, BackendVersion, ProxyAddrs};
use crate::websocket::elements;
use http::{HeaderValue, StatusCode, Version, header};
use moongate_sdk::Fields;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Chooses the upstream of the request, once.
pub(super) fn choose_cluster(head: &RequestHeader, ctx: &mut Context) {
    if ctx.attempts.cluster().is_none()
        && let Some(route) = &ctx.route
    {
        let only = route.destination.only();
        let chosen = only.or_else(|| route.destination.choose(&ctx.view(head), route.policy.drain));
        ctx.attempts.choose(chosen.cloned());
    }
}

/// Leases the next endpoint. Waits for the first probe of endpoints where no other is healthy.
///
/// # Errors
/// When no endpoint is available; the context has the reason.
pub(super) async fn lease(head: &RequestHeader, ctx: &mut Context) -> std::result::Result<(), Failure> {
    choose_cluster(head, ctx);
    ctx.attempts.prepare().await;
    let Some(route) = &ctx.route else { return Err(Failure::Internal) };
    // A route without an upstream, whose plugin failed to respond.
    let Some(cluster) = ctx.attempts.cluster() else { return Err(Failure::NoEndpoint) };
    let (key, drain_window) = (ctx.key(cluster, head), route.policy.drain);
    let picked = match ctx.received.is_websocket() {
        true => ctx.attempts.pick_for_websocket(&key, drain_window),
        false => ctx.attempts.pick(&key, drain_window),
    };
    match picked {
        Ok(lease) => {
            ctx.attempts.begin(lease);
            client_span::begin(head, ctx);
            Ok(())
        }
        // If endpoints were tried, the last failure is more specific than "no endpoint".
        Err(error) => Err(ctx.failure.unwrap_or(error.into())),
    }
}

/// Leases the next endpoint, if none is leased.
///
/// # Errors
/// When none is available, or the client disconnected during the previous attempt; the context has the failure.
pub(super) async fn lease_next(session: &Session, ctx: &mut Context) -> Result<()> {
    if ctx.attempts.lease().is_some() {
        return Ok(());
    }
    let leased = if ctx.attempts.count() > 0 && session.has_left() {
        Err(Failure::ClientGone)
    } else {
        lease(session.request(), ctx).await
    };
    leased.map_err(|failure| {
        ctx.failure = Some(failure);
        Error::new(OURS)
    })
}

/// Returns whether the request is a gRPC call to an HTTP/2 backend.
pub(super) fn is_call(ctx: &Context) -> bool {
    ctx.received.is_grpc && has_http2_upstream(ctx)
}

/// Returns whether the upstream's backends support HTTP/2.
fn has_http2_upstream(ctx: &Context) -> bool {
    ctx.attempts.protocol().is_some_and(|protocol| protocol != UpstreamProtocol::Http1)
}

/// How much a backend's timer may be ahead of the gateway's.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(20);

/// The most changes of a request between HTTP/1.1 and HTTP/2, after which a backend gets what it selects.
const MOST_VERSION_CHANGES: u8 = 2;

/// Returns whether the request goes to the leased endpoint with HTTP/1.1.
pub(super) fn uses_http1(ctx: &Context) -> bool {
    ctx.upgrade.is_some() || shares_http1(ctx)
}

/// Returns whether the leased endpoint is known to use HTTP/1.1, so that other requests can use a connection of it. A request
/// that offers protocols has its own.
pub(super) fn shares_http1(ctx: &Context) -> bool {
    match ctx.attempts.protocol() {
        None | Some(UpstreamProtocol::Http1) => true,
        Some(UpstreamProtocol::H2c) => false,
        Some(UpstreamProtocol::H2) => {
            let version = ctx.attempts.lease().map(|lease| lease.endpoint().version());
            !is_call(ctx) && version.is_some_and(|version| version != BackendVersion::Http2)
        }
    }
}

/// Returns whether a connection for the request may turn out to use another HTTP version than expected.
pub(super) fn may_change_version(ctx: &Context) -> bool {
    ctx.attempts.protocol() == Some(UpstreamProtocol::H2)
        && !is_call(ctx)
        && ctx.version_changes < MOST_VERSION_CHANGES
}

/// The leased endpoint turned out to use that version.
pub(super) fn change_version(ctx: &mut Context, version: BackendVersion) {
    ctx.version_changes += 1;
    if let Some(lease) = ctx.attempts.lease() {
        lease.endpoint().set_version(version);
    }
}

/// Returns whether the client accepts trailers (RFC 9110 §10.1.4), which HTTP/1.0 does not have.
pub(super) fn accepts_trailers(head: &RequestHeader) -> bool {
    let mut codings = elements(&head.headers, &header::TE);
    head.version != Version::HTTP_10 && codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// The addresses for the PROXY header, if the upstream sends one.
pub(super) fn ends(session: &Session, ctx: &Context) -> ProxyAddrs {
    ctx.attempts.cluster()?.spec().proxy_protocol?;
    let conn_info = session.conn_info();
    let local = session.local_addr();
    // A client without a known address is sent as unknown.
    let client = ctx.received.client.address().ip()?;
    if client == conn_info.peer.ip().to_canonical() {
        return Some((conn_info.peer, local?));
    }
    // The port of a client behind a trusted proxy is unknown.
    let client = SocketAddr::new(client, 0);
    Some((client, local.unwrap_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0))))
}

/// Prepares the request's fields for the backend.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(super) fn prepare_fields(fields: &mut impl Fields, ctx: &Context) -> Result<()> {
    // An HTTP/1.0 client may omit Host; the backend's HTTP/1.1 needs one (RFC 9112 §3.2).
    if !fields.map().contains_key(header::HOST) {
        let host = match (ctx.attempts.cluster(), ctx.attempts.lease()) {
            (Some(cluster), Some(lease)) => cluster.connector().authority(lease.endpoint()),
            _ => "localhost".to_owned(),
        };
        fields.set(&header::HOST, hop_by_hop::value(host)?);
    }
    let via = ctx.snapshot.globals.via.is_in_requests();
    hop_by_hop::request(fields, via.then_some(ctx.received.version));
    if let Some((name, value)) = ctx.received.way.mark(ctx.snapshot.globals.x_forwarded) {
        fields.append(&name, value);
    }
    if let Some(trace) = &ctx.trace {
        trace.write(fields);
    }
    Ok(())
}

/// The request is about to be sent: tells a client that waits for it to send its body, and starts the time
/// limit of the response.
///
/// # Errors
/// When the client disconnected.
pub(super) async fn begin_waiting(session: &mut Session, ctx: &mut Context) -> Result<()> {
    expect_continue::ask_for(session, ctx).await?;
    if let Some(route) = &ctx.route {
        let control = session.control();
        if is_call(ctx) {
            control.unpace();
            control.await_response(route.silence(true));
        } else {
            control.await_response(route.timeout);
        }
    }
    Ok(())
}

/// Handles the backend's response header.
///
/// # Errors
/// When it is an unrequested 101, or its body length is ambiguous.
pub(super) fn response_started(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    let cause = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        Some("an unrequested 101")
    } else if !hop_by_hop::frame_is_clear(head)? {
        Some("the length of the response is ambiguous")
    } else {
        None
    };
    if let Some(cause) = cause {
        ctx.failure = Some(Failure::BadResponse);
        return Err(Error::explain(OURS, cause).into_up());
    }
    ctx.failure = None;
    if !head.status.is_informational() {
        client_span::responded(ctx, head.status, head.version);
        ctx.attempts.record_latency();
        if let Some(route) = &ctx.route {
            let control = session.control();
            let streams = is_call(ctx) || is_event_stream(head);
            if streams {
                control.unpace();
            }
            control.stream(route.silence(streams));
        }
    } else {
        session.control().hear();
    }
    let via = ctx.snapshot.globals.via.is_in_responses();
    ctx.response.nominated = hop_by_hop::response(head, via)?;
    // RFC 9110 §2.5: the version of a message is its sender's, here the gateway's.
    head.set_version(Version::HTTP_11);
    Ok(())
}

/// Handles the header of a 101 to a request that offers protocols. Returns the chosen one, as the route lists it, and the
/// received values of `Upgrade`, which are removed as the other fields of one hop.
///
/// # Errors
/// When the backend chose a protocol that was not offered, or the header is ambiguous.
pub(super) fn switched(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<(Arc<str>, Vec<HeaderValue>)> {
    // RFC 9110 §7.8: HTTP/1.0 has no upgrade.
    let offer = ctx.upgrade.as_ref().filter(|_| head.version != Version::HTTP_10);
    let Some(protocol) = offer.and_then(|offer| offer.accepted(&head.headers)) else {
        ctx.failure = Some(Failure::BadResponse);
        return Err(Error::explain(OURS, "a 101 for a protocol that was not offered").into_up());
    };
    let chosen = head.headers.get_all(header::UPGRADE).iter().cloned().collect();
    hop_by_hop::frame_is_clear(head)?;
    hop_by_hop::response(head, ctx.snapshot.globals.via.is_in_responses())?;
    head.set_version(Version::HTTP_11);
    ctx.failure = None;
    client_span::responded(ctx, head.status, head.version);
    ctx.attempts.record_connect();
    ctx.attempts.record_latency();
    // The backend has responded: only the limits of the client's body apply to the rest of an upload.
    session.control().stream(None);
    Ok((protocol, chosen))
}

/// The response ends the upload: the rest of the request body is not sent.
pub(super) fn end_upload(session: &mut Session, ctx: &mut Context) {
    ctx.upload.is_cut_off = true;
    early_response::pause(session);
}

/// Returns whether a response is an event stream, which may be idle for long.
pub(super) fn is_event_stream(head: &ResponseHeader) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let Some(media) = head.headers.get(header::CONTENT_TYPE) else { return false };
    let Some((start, rest)) = media.as_bytes().split_at_checked(NAME.len()) else { return false };
    start.eq_ignore_ascii_case(NAME) && matches!(rest.trim_ascii_start().first(), None | Some(b';'))
}

/// Adjusts the limits once the backend's response starts. With HTTP/2 on both sides they may exchange
/// messages from now on, and a silent client listens: only the stream's idle limit applies.
pub(super) fn reset_session(session: &mut Session, ctx: &Context) {
    if ctx.received.is_http2() && has_http2_upstream(ctx) {
        session.set_body_timeout(None);
    }
}

/// The response that ended the upload early is complete: the rest of the request body is no longer read for
/// the backend.
pub(super) fn cut_off_upload(session: &Session, ctx: &mut Context) {
    ctx.upload.is_over = true;
    early_response::end(session);
}

/// The connection failed, or the response was invalid.
///
/// A request is retried only if that is safe (RFC 9110 §9.2.2), its body is still complete, and the client
/// has received no part of a response. A slow backend is not retried elsewhere: the other endpoints would get
/// its load in addition.
pub(super) fn broken(
    session: &Session,
    ctx: &mut Context,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    let failure = failure(session, ctx, &error);
    // The read failure that ends a request after an early response.
    let is_complete = ctx.upload.is_over && matches!(error.etype(), ErrorType::ReadError)
        || failure == Failure::ClientGone && is_answered(session);
    ctx.upload.is_over = is_complete;
    if ctx.response.instead.is_some() || is_complete {
        // A plugin responded, or the response is complete: the endpoint is not at fault.
        ctx.attempts.release();
        error.set_retry(false);
        return error;
    }
    let h2 = error.root_cause().downcast_ref::<h2::Error>();
    let harmless = h2.is_some_and(was_not_processed)
        || (failure == Failure::UpstreamClosed
            && ctx.method().unwrap_or(&session.request().method).is_idempotent());
    let repeatable =
        harmless && !session.has_response() && !session.is_retry_truncated() && ctx.upload.is_repeatable();
    // A reset stream does not concern the other streams on its connection.
    let is_stale = client_reused && !h2.is_some_and(h2::Error::is_reset);
    let failed = FailedAttempt { failure, cause: failed_attempt::of(&error, failure) };
    error.set_retry(end(ctx, failed, repeatable, is_stale));
    error
}

/// The failure of an attempt: the context's for an error of ours, a limit of the client's session, or the
/// error itself.
pub(super) fn failure(session: &Session, ctx: &Context, error: &Error) -> Failure {
    let ours = ctx.failure.filter(|_| *error.etype() == OURS);
    let failure = ours.or_else(|| session.control().failure()).unwrap_or_else(|| Failure::from(error));
    let is_late =
        failure == Failure::UpstreamClosed && was_cancelled(error) && is_past_deadline(session, ctx);
    if is_late { Failure::DeadlineExceeded } else { failure }
}

/// Returns whether the backend cancelled the stream, as gRPC servers do at the deadline of a call.
fn was_cancelled(error: &Error) -> bool {
    let h2 = error.root_cause().downcast_ref::<h2::Error>();
    h2.is_some_and(|h2| h2.is_remote() && h2.is_reset() && h2.reason() == Some(h2::Reason::CANCEL))
}

/// Returns whether the request is a gRPC call whose client waits no longer. The backend's clock began later than that of the
/// client, so that it may only seem to be early.
fn is_past_deadline(session: &Session, ctx: &Context) -> bool {
    let timeout = is_call(ctx).then(|| grpc::timeout(session.request())).flatten();
    timeout.is_some_and(|timeout| ctx.started.elapsed() + CLOCK_TOLERANCE >= timeout)
}

/// Returns whether the client has the whole response; errors of its upload are then ignored.
pub(super) fn is_answered(session: &Session) -> bool {
    session.control().is_answered()
}

/// Returns whether a backend signals that it did not process the request (RFC 9113 §8.7): by a refused stream
/// or GOAWAY.
fn was_not_processed(error: &h2::Error) -> bool {
    let reason = error.reason();
    error.is_remote()
        && ((error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
            || (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)))
}

/// Ends the attempt with its failure. Returns whether another one follows.
pub(super) fn end(ctx: &mut Context, failed: FailedAttempt, is_repeatable: bool, is_stale: bool) -> bool {
    let FailedAttempt { failure, cause } = failed;
    (ctx.failure, ctx.cause) = (Some(failure), cause);
    client_span::failed(ctx, failure.token());
    let is_blameless = failure.is_clients() || failure == Failure::Plugin;
    let blame = (!is_blameless).then(|| (failure.token(), failure.endpoints_fault()));
    ctx.attempts.end(AttemptEnd { blame, is_repeatable, is_stale })
}
