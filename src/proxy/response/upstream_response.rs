//! Upstream responses: final changes to the header, non-101 responses to handshakes, and failed requests.

use super::local_response;
use super::non_101_response::replay;
use crate::plugin::Decision;
use crate::proxy::attempt;
use crate::proxy::body::response_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::failure::{Detail, Failure, OURS};
use crate::proxy::request::hop_by_hop;
use crate::proxy::request::plugin_exchange;
use crate::proxy::request::request_facts::RequestLine;
use crate::proxy::request::request_start::connection;
use crate::proxy::websocket::extended_connect;
use crate::tunnel::TunnelIo;
use crate::upstream::DrainMoment;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use moongate_sdk::{Fields, Headers, ReadOnlyHeaders, Reply, Response, log_throttle};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v1::client::HttpSession as Upstream;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};
use std::sync::Arc;

/// The response that replaces the current one.
#[derive(Debug)]
pub(in crate::proxy) enum ReplacementResponse {
    /// A plugin's reply, to a request or a response, from the plugin at a position.
    Reply(Option<usize>, Box<Reply>),
    /// A response made by the gateway.
    Failure(Failure),
}

impl ReplacementResponse {
    /// The replacement by a decision about a request, if any.
    pub(in crate::proxy) fn of(decision: Decision) -> Option<Self> {
        Self::to_answer(decision).map(|instead| match instead {
            Self::Reply(_, reply) => Self::Reply(None, reply),
            failure @ Self::Failure(_) => failure,
        })
    }

    /// The replacement by a decision about a response, if any.
    fn to_answer(decision: Decision) -> Option<Self> {
        match decision {
            Decision::Continue => None,
            Decision::Respond { at, by, reply } if reply.status.is_informational() => {
                const MESSAGE: &str = "plugin responded with an interim status";
                if log_throttle::admit(log::Level::Error, MESSAGE, &[&by]) {
                    log::error!(plugin = &*by, position = at; "{MESSAGE}");
                }
                Some(Self::Failure(Failure::Plugin))
            }
            Decision::Respond { at, reply, .. } => Some(Self::Reply(Some(at), reply)),
            Decision::Body { .. } | Decision::Failed(_) => Some(Self::Failure(Failure::Plugin)),
        }
    }
}

impl From<Failure> for ReplacementResponse {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Passes the header of a backend's response to the client. If the request is complete, a replacement is sent
/// here, so that both connections are kept; otherwise it ends the attempt.
///
/// # Errors
/// When the client disconnected, or the attempt ends.
pub(in crate::proxy) async fn from_backend(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let comes = response_body::has_response_body(ctx.method().unwrap_or(&session.req_header().method), head);
    let Some(instead) = finish_head(session, head, ctx, &[], GivenBy::Backend).await? else {
        attempt::reset_session(session, ctx);
        // No body follows that header, even if the backend sends one.
        let goes = response_body::has_body(&session.req_header().method, head.status);
        if ctx.upload.is_cut_off && !(comes && goes) {
            attempt::cut_off_upload(session, ctx);
        }
        return response_body::frame(session, head, ctx, comes);
    };
    if !ctx.received.is_extended_connect && !session.as_downstream_mut().is_body_done() {
        ctx.instead = Some(instead);
        return Err(Error::new(OURS));
    }
    local_response::instead(session, ctx, instead).await?;
    ctx.replaced = true;
    Ok(())
}

/// The origin of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum GivenBy {
    /// The endpoint of the lease.
    Backend,
    /// The gateway itself, or one of its plugins.
    Gateway,
}

/// Final changes to the header of a response of any origin. Returns the replacement, if a plugin wants one;
/// plugins at `passed` have replaced it already.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) async fn finish_head(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
    passed: &[usize],
    by: GivenBy,
) -> Result<Option<ReplacementResponse>> {
    let mut status = head.status;
    let decision = dress(session, &mut status, &mut ResponseFields(head), ctx, passed, by).await;
    // After the plugins: their changes to a backend's cookies must not apply to the gateway's own.
    if let Some((cookie, _)) = sticky(session, ctx) {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    if ctx.received.is_extended_connect {
        status = extended_connect::refusal(status);
    }
    if status != head.status && !status.is_informational() {
        head.set_status(status)?;
    }
    Ok(decision.map_or_else(|gone| Some(gone.into()), ReplacementResponse::to_answer))
}

/// Final changes to the fields of a 101, whose status is fixed. Returns when the WebSocket's session leaves
/// in a drain.
///
/// # Errors
/// The replacement, if a plugin wants one.
pub(in crate::proxy) async fn finish_upgrade(
    session: &Session,
    headers: &mut HeaderMap,
    ctx: &mut Context,
) -> std::result::Result<Option<DrainMoment>, ReplacementResponse> {
    let mut status = StatusCode::SWITCHING_PROTOCOLS;
    let decision = dress(session, &mut status, headers, ctx, &[], GivenBy::Backend).await;
    if let Some(instead) = decision.map_or_else(|gone| Some(gone.into()), ReplacementResponse::to_answer) {
        return Err(instead);
    }
    let Some((cookie, moment)) = sticky(session, ctx) else {
        let cluster = ctx.cluster.as_ref();
        return Ok(
            cluster.and_then(|cluster| cluster.drain_moment(&cluster.key(&ctx.view(session.req_header()))))
        );
    };
    headers.append(header::SET_COOKIE, cookie);
    Ok(Some(moment))
}

/// The cookie that ties the client to this endpoint, if it does not have it yet.
fn sticky(session: &Session, ctx: &Context) -> Option<(HeaderValue, DrainMoment)> {
    let (cluster, lease) = (ctx.cluster.as_ref()?, ctx.lease.as_ref()?);
    cluster.sticky_cookie(lease, &cluster.key(&ctx.view(session.req_header())))
}

/// Runs the plugins' response phase.
///
/// # Errors
/// [`Failure::ClientGone`] when the client disconnects while a plugin waits.
async fn dress(
    session: &Session,
    status: &mut StatusCode,
    fields: &mut dyn Fields,
    ctx: &mut Context,
    passed: &[usize],
    by: GivenBy,
) -> std::result::Result<Decision, Failure> {
    let Some(route) = ctx.route.clone().filter(|route| !route.chain.skips_response_headers()) else {
        return Ok(Decision::Continue);
    };
    let watch = if route.chain.may_wait() { client_disconnect::watch(session) } else { None };
    let request = session.req_header();
    // Plugins can read the request's fields, but only change the response's.
    let mut seen = ReadOnlyHeaders(&request.headers);
    let lease = ctx.lease.as_ref().filter(|_| by == GivenBy::Backend);
    let endpoint = lease.map(|lease| Arc::clone(lease.endpoint()));
    let mut exchange = plugin_exchange::of(ctx, &route, RequestLine::of(request), &mut seen);
    let endpoint = endpoint.as_ref().map(|endpoint| endpoint.name());
    let mut answer = Response { status: *status, headers: Headers::response(fields), endpoint };
    let shown = route.chain.response_headers(&mut exchange, &mut answer, passed);
    let decision = client_disconnect::unless_gone(watch, shown).await;
    *status = answer.status;
    decision
}

/// Forwards a non-101 response to a handshake as an ordinary response, on a connection that stays an ordinary
/// one.
///
/// # Errors
/// When either side disconnected.
pub(in crate::proxy) async fn pass_on(
    session: &mut Session,
    ctx: &mut Context,
    leg: TunnelIo,
    read: &[u8],
) -> Result<()> {
    let Some(stream) = replay(leg, read) else {
        return local_response::failure(session, ctx, Failure::BadResponse).await;
    };
    let mut upstream = Upstream::new(stream);
    upstream.read_timeout = ctx.route.as_ref().and_then(|route| route.timeout);
    let mut head = loop {
        let head =
            match client_disconnect::unless_session_ends(session, upstream.read_resp_header_parts()).await {
                Ok(Ok(head)) => head,
                Ok(Err(_)) => return local_response::failure(session, ctx, Failure::BadResponse).await,
                Err(gone) => return local_response::failure(session, ctx, gone).await,
            };
        if !head.status.is_informational() {
            break head;
        }
    };
    if !hop_by_hop::frame_is_clear(&mut head)? {
        return local_response::failure(session, ctx, Failure::BadResponse).await;
    }
    let via = ctx.snapshot.as_ref().is_some_and(|snapshot| snapshot.terms.via.is_in_responses());
    hop_by_hop::response(&mut head, via)?;
    from_backend(session, &mut head, ctx).await?;
    if ctx.replaced {
        return Ok(());
    }
    let streams = attempt::is_event_stream(&head);
    upstream.read_timeout = ctx.route.as_ref().and_then(|route| route.silence(streams));
    session.write_response_header(head, false).await?;
    loop {
        let failure = match client_disconnect::unless_session_ends(session, upstream.read_body_bytes()).await
        {
            Ok(Ok(Some(bytes))) => {
                write_piece(session, ctx, Some(bytes), false).await?;
                continue;
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => Failure::StreamIdleTimeout,
            Ok(Err(_)) => Failure::UpstreamClosed,
            Err(gone) => gone,
        };
        // The response is incomplete, so the client's connection is closed.
        ctx.failure = Some(failure);
        session.set_keepalive(None);
        return Ok(());
    }
    write_piece(session, ctx, None, true).await?;
    upstream.shutdown().await;
    Ok(())
}

async fn write_piece(
    session: &mut Session,
    ctx: &mut Context,
    mut bytes: Option<Bytes>,
    end: bool,
) -> Result<()> {
    if ctx.shows_answer {
        response_body::pass(session, &mut bytes, end, ctx)?;
    }
    session.write_response_body(bytes, end).await
}

/// Responds to a failed request, or to one whose response ended before its body.
pub(in crate::proxy) async fn give_up(
    session: &mut Session,
    error: &Error,
    ctx: &mut Context,
) -> FailToProxy {
    if ctx.upload.is_over && ctx.instead.is_none() {
        let error_code = session.response_written().map_or(0, |head| head.status.as_u16());
        return FailToProxy { error_code, can_reuse_downstream: false };
    }
    // Pingora only reports a failed read.
    let failure = if connection(session).is_some_and(Connection::is_broken) {
        Failure::BadRequest(Detail("the body violates its framing"))
    } else {
        ctx.failure.unwrap_or_else(|| attempt::failure(session, ctx, error))
    };
    // Pingora closes the client's connection after a failed attempt; the response announces it.
    session.set_keepalive(None);
    // A disconnected client gets no response, but the log entry is written.
    let status = match ctx.instead.take() {
        Some(instead) => {
            let _ = local_response::instead(session, ctx, instead).await;
            session.response_written().map_or(0, |head| head.status.as_u16())
        }
        None => {
            let _ = local_response::failure(session, ctx, failure).await;
            failure.row().status
        }
    };
    FailToProxy { error_code: status, can_reuse_downstream: false }
}

/// Framing fields (RFC 9112 §6). Plugins cannot change them: the gateway sets them for the final body.
const FRAMING: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// The fields of Pingora's response type.
struct ResponseFields<'a>(&'a mut ResponseHeader);

impl Fields for ResponseFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            // Conversion of a HeaderName and a HeaderValue cannot fail.
            let _ = self.0.insert_header(name.clone(), value);
        }
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.append_header(name.clone(), value);
        }
    }
    fn remove(&mut self, name: &HeaderName) {
        if !FRAMING.contains(name) {
            self.0.remove_header(name);
        }
    }
}

/// The fields of Pingora's request type.
pub(in crate::proxy) struct RequestFields<'a>(pub(in crate::proxy) &'a mut RequestHeader);

impl Fields for RequestFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.insert_header(name.clone(), value);
        }
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        if !FRAMING.contains(name) {
            let _ = self.0.append_header(name.clone(), value);
        }
    }
    fn remove(&mut self, name: &HeaderName) {
        if !FRAMING.contains(name) {
            self.0.remove_header(name);
        }
    }
}
