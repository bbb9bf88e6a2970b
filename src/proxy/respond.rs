//! Answers that the gateway makes itself.

use super::answer;
use super::context::Context;
use super::failure::Failure;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use moongate_sdk::Reply;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// How long a client told 503 should wait, in seconds (RFC 9110 §10.2.3).
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Tells the client why there is no other answer. Nothing is sent to a client that is gone, nor
/// behind a head that was sent already.
///
/// # Errors
/// When the client went away meanwhile.
pub(super) async fn failure(session: &mut Session, ctx: &mut Context, failure: Failure) -> Result<()> {
    ctx.failure = Some(failure);
    let Some(status) = failure.status() else { return Ok(()) };
    // An interim answer is not the answer.
    if session.response_written().is_some_and(|head| !head.status.is_informational()) {
        return Ok(());
    }
    let (body, content_type) = body(session, ctx, failure, status);
    let mut head = ResponseHeader::build(status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header("x-request-id", ctx.running.request_id().clone())?;
    match failure {
        Failure::WebSocketVersion => {
            head.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
            head.insert_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))?;
        }
        Failure::NoEndpoint | Failure::NoResources | Failure::TooManyConnections | Failure::Draining => {
            head.insert_header(header::RETRY_AFTER, RETRY_AFTER)?;
        }
        Failure::TooManyHandshakes(crowded) => {
            head.insert_header(header::RETRY_AFTER, HeaderValue::from(crowded.retry_after()))?;
        }
        _ => {}
    }
    if !failure.keeps_connection() {
        session.set_keepalive(None);
    }
    send(session, ctx, head, body).await
}

/// What a client asks for decides the shape: a program gets JSON, a person a line.
fn body(session: &Session, ctx: &mut Context, failure: Failure, status: StatusCode) -> (String, HeaderValue) {
    let accept = session.get_header_bytes(header::ACCEPT);
    let wants_json = accept.windows(JSON.len()).any(|part| part.eq_ignore_ascii_case(JSON.as_bytes()));
    let (token, code) = (failure.token(), status.as_u16());
    // An id that a client brought may be any field value; in a body only plain ones appear.
    let id = ctx.running.request_id().to_str().unwrap_or_default().replace(['"', '\\'], "");
    if wants_json {
        (format!("{{\"error\":\"{token}\",\"status\":{code},\"request_id\":\"{id}\"}}\n"), JSON)
    } else {
        let reason = status.canonical_reason().unwrap_or("Error");
        (format!("{code} {reason}: {token} (request {id})\n"), PLAIN)
    }
}

/// Sends a plugin's answer.
///
/// # Errors
/// When the client went away meanwhile, or a field cannot be sent.
pub(super) async fn reply(session: &mut Session, ctx: &mut Context, reply: Reply) -> Result<()> {
    let Reply { status, headers, body } = reply;
    let mut head = ResponseHeader::build(status, Some(headers.len() + 1))?;
    for (name, value) in &headers {
        head.append_header(name.clone(), value.clone())?;
    }
    send(session, ctx, head, body).await
}

/// Sends a head and its whole body; `Content-Length` is ours to say.
///
/// # Errors
/// When the client went away meanwhile.
pub(super) async fn send(
    session: &mut Session,
    ctx: &mut Context,
    mut head: ResponseHeader,
    body: impl Into<Bytes>,
) -> Result<()> {
    let body = body.into();
    answer::finish_head(session, &mut head, ctx).await?;
    // RFC 9110 §8.6: neither 1xx nor 204 has a length.
    if !head.status.is_informational() && head.status != StatusCode::NO_CONTENT {
        head.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    }
    // A request's body that was never read must not be taken for the next request.
    if !session.as_downstream_mut().is_body_done() {
        session.set_keepalive(None);
    }
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
