//! The last changes to the head of a response: plugins, and the cookie that ties the client to its endpoint.

use crate::plugin::Decision;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::proxy::message_fields::ResponseFields;
use crate::proxy::replacement_response::ReplacementResponse;
use crate::proxy::request::extended_connect;
use crate::proxy::request::request_facts::RequestLine;
use crate::upstream::DrainMoment;
use http::{HeaderValue, StatusCode, header};
use moongate_sdk::{Fields, Headers, ReadOnlyHeaders, Response};
use pingora::Result;
use pingora::http::ResponseHeader;
use std::sync::Arc;

/// The source of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum GivenBy {
    /// The endpoint of the lease.
    Backend,
    /// The gateway itself, or one of its plugins.
    Gateway,
}

/// Applies the last changes to a response header: plugins and cookie. Returns the replacement, if
/// a plugin requests one; the plugins at `passed` are skipped.
///
/// # Errors
/// When a value cannot be a field value, which is excluded.
pub(in crate::proxy) async fn finish_head(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
    passed: &[usize],
    by: GivenBy,
) -> Result<Option<ReplacementResponse>> {
    let mut status = head.status;
    let decision = dress(session, &mut status, &mut ResponseFields(head), ctx, passed, by).await;
    // After the plugins, so that changes to cookies of the backend do not affect the gateway's cookie.
    if let Some((cookie, _)) = sticky(session, ctx) {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    if ctx.received.is_extended_connect {
        status = extended_connect::refusal(status);
    }
    if status != head.status && !status.is_informational() {
        head.set_status(status)?;
    }
    Ok(decision.map_or_else(|gone| Some(gone.into()), ReplacementResponse::to_response))
}

/// The same for the fields of a 101, whose status stays. Returns the session's moment in a drain.
///
/// # Errors
/// The replacement, if a plugin requests one.
pub(in crate::proxy) async fn finish_upgrade(
    session: &Session,
    fields: &mut dyn Fields,
    ctx: &mut Context,
) -> std::result::Result<Option<DrainMoment>, ReplacementResponse> {
    let mut status = StatusCode::SWITCHING_PROTOCOLS;
    let decision = dress(session, &mut status, fields, ctx, &[], GivenBy::Backend).await;
    if let Some(instead) = decision.map_or_else(|gone| Some(gone.into()), ReplacementResponse::to_response) {
        return Err(instead);
    }
    let Some((cookie, moment)) = sticky(session, ctx) else {
        let cluster = ctx.attempts.cluster();
        return Ok(cluster.and_then(|cluster| cluster.drain_moment(&ctx.key(cluster, session.request()))));
    };
    fields.append(&header::SET_COOKIE, cookie);
    Ok(Some(moment))
}

/// The cookie that binds the client to this endpoint, if the client does not have it yet.
fn sticky(session: &Session, ctx: &Context) -> Option<(HeaderValue, DrainMoment)> {
    let (cluster, lease) = (ctx.attempts.cluster()?, ctx.attempts.lease()?);
    cluster.cookie()?;
    cluster.sticky_cookie(lease, &ctx.key(cluster, session.request()))
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
    let watch = if route.chain.may_wait() { session.watch() } else { None };
    let request = session.request();
    // In this phase plugins read the request fields and change only the response fields.
    let mut seen = ReadOnlyHeaders(&request.headers);
    let lease = ctx.attempts.lease().filter(|_| by == GivenBy::Backend);
    let endpoint = lease.map(|lease| Arc::clone(lease.endpoint()));
    let mut exchange = ctx.exchange(&route, RequestLine::of(request), &mut seen);
    let endpoint = endpoint.as_ref().map(|endpoint| endpoint.name());
    let mut answer = Response { status: *status, headers: Headers::response(fields), endpoint };
    let shown = route.chain.response_headers(&mut exchange, &mut answer, passed);
    let decision = client_disconnect::until_disconnect(watch, shown).await;
    *status = answer.status;
    decision
}
