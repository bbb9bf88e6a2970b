//! Metrics and access log of an ended request, and of a WebSocket that opens or ends.

use crate::net::conn_info::ConnInfo;
use crate::plugin::Chain;
use crate::proxy::body::early_response;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::proxy::request::request_facts::RequestLine;
use crate::proxy::tracing::server_span;
use crate::snapshot::Snapshot;
use crate::telemetry::access_log::{Entry, Note};
use crate::telemetry::metrics;
use crate::telemetry::quoted;
use http::{HeaderMap, StatusCode, Version, header};
use log::log;
use moongate_sdk::{ReadOnlyHeaders, RequestState, log_throttle};
use pingora::http::RequestHeader;
use std::time::Duration;

/// Counts and logs an ended request, then reads what a client still sends of a request that was answered early.
pub(in crate::proxy) async fn end(session: &mut Session, ctx: &mut Context) {
    record(session, ctx);
    let shutdown = ctx.shutdown_flag();
    // The shutdown does not wait for the rest of the request.
    ctx.release();
    // A client that still waits for 100 sends nothing.
    let sends_nothing = session.is_http2() && ctx.received.expects_continue && !ctx.upload.is_asked_for;
    if !sends_nothing {
        early_response::linger(session, &shutdown).await;
    }
}

/// Counts and logs an ended request.
fn record(session: &Session, ctx: &mut Context) {
    // An interim response does not count.
    let status =
        session.response_written().map(|head| head.status).filter(|status| !status.is_informational());
    let code = status.map_or(unsent(ctx), |status| status.as_u16());
    let lived = ctx.started.elapsed();
    count(ctx, code, lived);
    log_failure(session, ctx, code);
    plugins(session, ctx, status);
    let logged = ctx.route.as_ref().is_none_or(|route| route.logged);
    if let Some(log) = ctx.snapshot.log.as_ref().filter(|_| logged) {
        log.write(&Entry {
            status: code,
            bytes_sent: session.body_bytes_sent() as u64,
            bytes_received: ctx.upload.received(session) as u64,
            notes: &notes(ctx),
            duration: lived,
            error: ctx.failure.map(crate::proxy::Failure::token),
            error_detail: ctx.failure.map_or("", crate::proxy::Failure::detail),
            ..entry(session.request(), ctx)
        });
    }
    server_span::end(session, ctx, status.map(|status| status.as_u16()), lived);
}

/// Counts and logs a request whose HTTP/2 stream was reset before its header was known.
pub(in crate::proxy) fn refused_stream(snapshot: &Snapshot, conn_info: &ConnInfo, failure: Failure) {
    metrics::global().request_failed(failure.token());
    let Some(log) = &snapshot.log else { return };
    log.write(&Entry {
        client: Some(conn_info.peer.ip().to_canonical().into()),
        protocol: protocol(Version::HTTP_2),
        tls: conn_info.tls.as_deref().map(|tls| (tls.version, tls.cipher)),
        // What h2 resets gets no status.
        status: match failure {
            Failure::ClientGone => CLIENT_GONE,
            Failure::HeadTooLarge => failure.row().status,
            _ => 0,
        },
        error: Some(failure.token()),
        error_detail: failure.detail(),
        ..Entry::default()
    });
}

/// The request became a WebSocket: its response is counted, without a duration, and the plugins' exchange
/// ends. The tunnel reports the rest.
pub(in crate::proxy) fn upgraded(session: &Session, ctx: &mut Context) {
    // The client's status (RFC 8441 §5). Plugins always see the handshake of HTTP/1.1.
    let status = if ctx.received.is_extended_connect { 200 } else { 101 };
    if let (Some(route), Some(cluster)) = (&ctx.route, ctx.attempts.cluster()) {
        route.response_metrics(cluster).handshake(status);
    }
    plugins(session, ctx, Some(StatusCode::SWITCHING_PROTOCOLS));
    server_span::end(session, ctx, Some(status), ctx.started.elapsed());
}

/// The status of a request whose client disconnected, as in nginx.
const CLIENT_GONE: u16 = 499;

/// The status of a request without a response.
fn unsent(ctx: &Context) -> u16 {
    if ctx.failure == Some(Failure::ClientGone) { CLIENT_GONE } else { 0 }
}

fn count(ctx: &Context, status: u16, lived: Duration) {
    let answers = match (&ctx.route, ctx.attempts.cluster()) {
        (None, _) => &**ctx.snapshot.unrouted,
        (Some(route), Some(cluster)) => route.response_metrics(cluster),
        (Some(route), None) => &*route.metrics.without_upstream,
    };
    // Only a trace that is exported is worth an exemplar.
    let trace = ctx.trace.as_ref().and_then(|trace| trace.sampled());
    answers.request(status, lived, trace.map(|span| span.trace));
    if let Some(reason) = ctx.failure.and_then(Failure::client_abort) {
        answers.aborted(reason);
    }
}

/// Logs a failure in the process log, with the fields that an operator needs.
fn log_failure(session: &Session, ctx: &Context, status: u16) {
    let Some(failure) = ctx.failure else { return };
    metrics::global().request_failed(failure.token());
    let route = ctx.route.as_ref().map_or("", |route| &*route.name);
    let endpoint = ctx.attempts.endpoint().map_or("", |endpoint| endpoint.name());
    let head = session.request();
    let (level, reason, method, path) =
        (failure.row().level, failure.token(), head.method.as_str(), head.uri.path());
    // Handshakes fail for reasons of their own, so they are limited separately from requests.
    let sort = if ctx.received.is_websocket() { "websocket" } else { "" };
    if !log_throttle::admit(level, "request failed", &[reason, route, endpoint, sort]) {
        return;
    }
    let Some((server_name, error)) = behind(failure, ctx) else {
        if let Some(cause) = ctx.cause.as_deref().filter(|_| failure == Failure::BadResponse) {
            log!(level,
                reason, status, route, endpoint, attempts = ctx.attempts.count(), client:% = ctx.received.client.address(), method, path,
                error = quoted(cause);
                "request failed");
            return;
        }
        log!(level,
            reason, status, route, endpoint, attempts = ctx.attempts.count(), client:% = ctx.received.client.address(), method, path;
            "request failed");
        return;
    };
    log!(level,
        reason, status, route, endpoint, attempts = ctx.attempts.count(), client:% = ctx.received.client.address(), method, path,
        server_name = &*server_name, error;
        "request failed");
}

/// After a failed TLS handshake with a backend: the expected server name, and the TLS error.
fn behind(failure: Failure, ctx: &Context) -> Option<(String, String)> {
    let cause = ctx.cause.as_deref().filter(|_| failure.is_tls())?;
    let (cluster, endpoint) = (ctx.attempts.cluster()?, ctx.attempts.endpoint()?);
    Some((cluster.connector().server_name(endpoint), quoted(cause)))
}

fn plugins(session: &Session, ctx: &mut Context, status: Option<StatusCode>) {
    let Some(route) = ctx.route.clone().filter(|route| !route.chain.skips_log()) else { return };
    let head = session.request();
    let mut seen = ReadOnlyHeaders(&head.headers);
    let mut exchange = ctx.exchange(&route, RequestLine::of(head), &mut seen);
    route.chain.log(&mut exchange, status);
}

/// The fields common to all log entries.
fn entry<'a>(head: &'a RequestHeader, ctx: &'a Context) -> Entry<'a> {
    Entry {
        client: Some(ctx.received.client.address()),
        method: if ctx.received.parts.has_no_method { "" } else { head.method.as_str() },
        host: host(head, ctx),
        path: ctx.received.parts.target.as_deref().unwrap_or(head.raw_path()),
        protocol: protocol(head.version),
        tls: ctx.received.tls.as_deref().map(|tls| (tls.version, tls.cipher)),
        route: ctx.route.as_ref().map_or("", |route| &*route.name),
        upstream: ctx.attempts.cluster().map_or("", |cluster| cluster.name()),
        endpoint: ctx.attempts.endpoint().map_or("", |endpoint| endpoint.name()),
        attempts: u32::from(ctx.attempts.count()),
        request_id: ctx.running.known_request_id().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        trace_id: ctx.trace.as_ref().map(|trace| trace.id()),
        user_agent: bytes(&head.headers, &header::USER_AGENT),
        referer: bytes(&head.headers, &header::REFERER),
        ..Entry::default()
    }
}

/// The requested host; the Host field for a request that was rejected before it was interpreted.
fn host<'a>(head: &'a RequestHeader, ctx: &'a Context) -> &'a [u8] {
    match ctx.received.authority() {
        "" => bytes(&head.headers, &header::HOST),
        authority => authority.as_bytes(),
    }
}

/// The plugins' log fields.
pub(in crate::proxy) fn notes(ctx: &Context) -> Vec<Note<'_>> {
    ctx.route.as_ref().map_or_else(Vec::new, |route| notes_of(&route.chain, &ctx.running))
}

/// The plugins' log fields, sorted. Of two with one name and key the last one applies.
pub(in crate::proxy) fn notes_of<'a>(chain: &'a Chain, running: &'a RequestState) -> Vec<Note<'a>> {
    let name = |by: usize| chain.entries().get(by).map(|entry| &**entry.name());
    let latest_first = running.notes().iter().rev();
    let mut notes: Vec<_> = latest_first
        .filter_map(|note| Some(Note { plugin: name(note.by)?, key: &note.key, value: &note.value }))
        .collect();
    notes.sort_by_key(|note| (note.plugin, note.key));
    notes.dedup_by_key(|note| (note.plugin, note.key));
    notes
}

fn bytes<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a [u8] {
    headers.get(name).map_or(b"", |value| value.as_bytes())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
