//! Attempts in Pingora's loop: the endpoint as Pingora's peer, and the header that Pingora sends.

use super::idle_connections;
use crate::config::UpstreamProtocol;
use crate::proxy::attempt::{accepts_trailers, begin_waiting, end, ends, is_call, prepare_fields};
use crate::proxy::body::request_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::failed_attempt::{self, FailedAttempt};
use crate::proxy::failure::{Failure, OURS};
use crate::proxy::message_fields::RequestFields;
use crate::route::carried;
use crate::upstream::Versions;
use http::{HeaderValue, Version, header};
use moongate_sdk::BodyLength;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, Result};
use std::time::Duration;

/// Pingora's own read timeout, used only after the session no longer enforces its limits.
const LAST_RESORT: Duration = Duration::from_secs(3600);

/// The leased endpoint as Pingora's peer.
///
/// # Errors
/// When there is none, which is excluded.
pub(super) fn leased_peer(session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
    let (Some(cluster), Some(lease), Some(route)) =
        (ctx.attempts.cluster(), ctx.attempts.lease(), &ctx.route)
    else {
        return Err(Error::new(OURS));
    };
    let is_call = is_call(ctx);
    let versions = if is_call { Versions::Http2 } else { Versions::Either };
    let mut peer = cluster.connector().peer(lease.endpoint(), ends(session, ctx), versions)?;
    let options = &mut peer.options;
    options.connection_timeout = Some(cluster.spec().connect_timeout.0);
    options.total_connection_timeout = Some(cluster.spec().connect_timeout.0);
    // An HTTP/2 connection without keep-alive ends with its last stream.
    let keep =
        if ctx.attempts.keeps_connections() { cluster.spec().keepalive_timeout.0 } else { Duration::ZERO };
    options.idle_timeout = Some(keep);
    // The client's session limits the backend's idle time: it distinguishes headers from bodies.
    options.read_timeout = None;
    if cluster.connector().protocol() != UpstreamProtocol::Http1 && !is_call {
        // After a failed upload to an HTTP/2 backend, Pingora no longer polls the session, and this limits
        // the wait. Pingora counts it from the start of the request, so it must exceed the duration of an
        // upload or a stream.
        let longest = route.timeout.zip(route.silence(true)).map(|(head, body)| head.max(body));
        options.read_timeout = longest.map(|longest| longest.max(LAST_RESORT));
    }
    if is_call {
        // A stream may be idle in both directions; the client limits a call with its deadline.
        session.set_body_timeout(None);
    } else {
        options.write_timeout = route.timeout;
    }
    // WebSockets do not use this path, and nothing else may switch protocols.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    idle_connections::track(&mut peer);
    Ok(Box::new(peer))
}

/// Prepares the request header for the backend.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
fn prepare(head: &mut RequestHeader, ctx: &Context) -> Result<()> {
    match (ctx.outgoing(), ctx.received.parts.target.as_deref()) {
        // A plugin's target may contain characters that are invalid in a URI.
        (Some(target), _) => head.set_raw_path(&carried(target.as_bytes()))?,
        // The request line has an encoded form of this target, since the parser accepts only UTF-8. HTTP/2
        // does too.
        (None, Some(sent)) if head.version != Version::HTTP_2 && sent.first() == Some(&b'/') => {
            head.set_raw_path(&carried(sent))?;
        }
        _ => {}
    }
    prepare_fields(&mut RequestFields(head), ctx)
}

/// Prepares a request other than a handshake: method and body framing in addition.
///
/// # Errors
/// As [`prepare`].
pub(super) async fn dispatch(
    session: &mut Session,
    head: &mut RequestHeader,
    ctx: &mut Context,
) -> Result<()> {
    prepare(head, ctx)?;
    if let Some(method) = ctx.method() {
        head.set_method(method.clone());
    }
    let is_of_http2 = ctx.attempts.protocol() != Some(UpstreamProtocol::Http1);
    if head.version != Version::HTTP_2 && (is_of_http2 || !ctx.attempts.keeps_connections()) {
        // RFC 9112 §9.6. Pingora does not reuse the connection after it either, and ends it with the alert of TLS, which
        // its pool omits.
        head.insert_header(header::CONNECTION, HeaderValue::from_static("close"))?;
    }
    if head.version == Version::HTTP_2 && accepts_trailers(session.request()) {
        // gRPC servers require it, and this hop supports trailers too.
        head.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    if head.version == Version::HTTP_2 {
        // The trailers of requests to HTTP/2 backends end here.
        head.remove_header(&header::TRAILER);
    }
    request_body::frame(head, ctx)?;
    if ctx.upload.is_plain() && session.lacks_length() && !ctx.received.is_grpc {
        set_length(session, head, ctx).await?;
    }
    begin_waiting(session, ctx).await
}

/// Gives a body that has arrived the length that its header does not have: some applications take one without a length for
/// an empty one.
async fn set_length(session: &mut Session, head: &mut RequestHeader, ctx: &Context) -> Result<()> {
    session.keep_for_retry();
    session.read_arrived().await.map_err(Error::into_down)?;
    if !session.is_body_done() || session.is_retry_truncated() || ctx.received.body == BodyLength::Empty {
        return Ok(());
    }
    let length = session.kept_for_retry().map_or(0, |kept| kept.len());
    head.remove_header(&header::TRANSFER_ENCODING);
    head.insert_header(header::CONTENT_LENGTH, length)?;
    Ok(())
}

/// No connection was established: nothing was sent, so any request may be retried.
pub(super) fn not_connected(ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let failure = Failure::from(&*error);
    let failed = FailedAttempt { failure, cause: failed_attempt::of(&error, failure) };
    error.set_retry(end(ctx, failed, true, false));
    error
}
