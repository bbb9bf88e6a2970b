//! Responses made by the gateway.

use super::response_head::{GivenBy, finish_head};
use crate::proxy::body::response_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::proxy::replacement_response::ReplacementResponse;
use crate::proxy::request::grpc;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use moongate_sdk::Reply;
use pingora::Result;
use pingora::http::ResponseHeader;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// The `Retry-After` of a 503, in seconds (RFC 9110 §10.2.3).
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Sends the response for a failure. Nothing is sent to a disconnected client, or after a response header.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn failure(
    session: &mut Session,
    ctx: &mut Context,
    failure: Failure,
) -> Result<()> {
    instead(session, ctx, failure.into()).await
}

/// Sends a replacement response.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn instead(
    session: &mut Session,
    ctx: &mut Context,
    instead: ReplacementResponse,
) -> Result<()> {
    if let ReplacementResponse::Failure(failure) = &instead {
        ctx.failure = Some(*failure);
        if failure.status().is_none() {
            return Ok(());
        }
    }
    if session.has_response() {
        return Ok(());
    }
    let mut passed = Vec::new();
    let made = make(session, ctx, instead, &mut passed)?;
    deliver(session, ctx, made, passed).await
}

/// A response made by the gateway.
struct LocalBody {
    head: ResponseHeader,
    body: Bytes,
}

/// Builds it. A plugin that replaced a response does not see its replacement.
fn make(
    session: &mut Session,
    ctx: &mut Context,
    instead: ReplacementResponse,
    passed: &mut Vec<usize>,
) -> Result<LocalBody> {
    match instead {
        ReplacementResponse::Failure(failure) => refusal(session, ctx, failure),
        ReplacementResponse::Reply(at, reply) => {
            passed.extend(at);
            replied(*reply)
        }
    }
}

/// The response for a failure.
fn refusal(session: &mut Session, ctx: &mut Context, failure: Failure) -> Result<LocalBody> {
    ctx.failure = Some(failure);
    let status = failure.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if ctx.received.is_grpc {
        return refused_call(ctx, failure, status);
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
        // RFC 9110 §15.5.6: the allowed methods.
        Failure::MethodNotAllowed => head.insert_header(header::ALLOW, ALLOWED)?,
        Failure::NoEndpoint
        | Failure::EndpointsFull
        | Failure::NoResources
        | Failure::TooManyConnections
        | Failure::Draining => {
            head.insert_header(header::RETRY_AFTER, RETRY_AFTER)?;
        }
        Failure::TooManyHandshakes(queue_full) => {
            head.insert_header(header::RETRY_AFTER, HeaderValue::from(queue_full.retry_after()))?;
        }
        _ => {}
    }
    if !failure.keeps_connection() {
        session.close_after_response();
    }
    Ok(LocalBody { head, body: body.into() })
}

/// The response for a gRPC client, which reads only gRPC's status: Trailers-Only.
fn refused_call(ctx: &mut Context, failure: Failure, status: StatusCode) -> Result<LocalBody> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(5))?;
    head.insert_header(header::CONTENT_TYPE, grpc::MEDIA)?;
    let status = match failure {
        Failure::DeadlineExceeded => grpc::DEADLINE_EXCEEDED,
        _ => grpc::status(status),
    };
    head.insert_header(grpc::STATUS, status)?;
    head.insert_header(grpc::MESSAGE, HeaderValue::from_static(failure.token()))?;
    head.insert_header("x-request-id", ctx.running.request_id().clone())?;
    Ok(LocalBody { head, body: Bytes::new() })
}

/// The client's Accept selects the format: JSON, or a line of text.
fn body(session: &Session, ctx: &mut Context, failure: Failure, status: StatusCode) -> (String, HeaderValue) {
    let accept = session.request().headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    let wants_json = accept.windows(JSON.len()).any(|part| part.eq_ignore_ascii_case(JSON.as_bytes()));
    let (token, code) = (failure.token(), status.as_u16());
    // A client's request ID may contain any field value; only plain ones appear in a body.
    let id = ctx.running.request_id().to_str().unwrap_or_default().replace(['"', '\\'], "");
    let detail = failure.detail();
    if wants_json {
        // No detail needs JSON escapes.
        let detail = if detail.is_empty() { String::new() } else { format!("\"detail\":\"{detail}\",") };
        (format!("{{\"error\":\"{token}\",{detail}\"status\":{code},\"request_id\":\"{id}\"}}\n"), JSON)
    } else {
        let reason = status.canonical_reason().unwrap_or("Error");
        let detail = if detail.is_empty() { String::new() } else { format!("{detail}\n") };
        (format!("{code} {reason}: {token} (request {id})\n{detail}"), PLAIN)
    }
}

/// A plugin's response, without connection and framing fields.
fn replied(reply: Reply) -> Result<LocalBody> {
    let Reply { status, headers, body } = reply;
    let mut head = ResponseHeader::build(status, Some(headers.len() + 1))?;
    for (name, value) in &headers {
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    Ok(LocalBody { head, body })
}

/// Sends a header and its whole body; the gateway sets `Content-Length`.
///
/// # Errors
/// When the client disconnected.
pub(in crate::proxy) async fn send(
    session: &mut Session,
    ctx: &mut Context,
    head: ResponseHeader,
    body: impl Into<Bytes>,
) -> Result<()> {
    deliver(session, ctx, LocalBody { head, body: body.into() }, Vec::new()).await
}

/// Passes a response through the plugins and sends it, or a replacement. The loop ends: a plugin that
/// replaced a response is skipped from then on, and so is one that failed.
async fn deliver(
    session: &mut Session,
    ctx: &mut Context,
    made: LocalBody,
    mut passed: Vec<usize>,
) -> Result<()> {
    let LocalBody { mut head, mut body } = made;
    loop {
        // Plugins see the length as for a backend's response; they may change it.
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        let mut other = finish_head(session, &mut head, ctx, &passed, GivenBy::Gateway).await?;
        let goes = response_body::has_body(&session.request().method, head.status);
        if other.is_none() && goes {
            match response_body::pass_whole(session, ctx, body.clone()) {
                Ok(passed) => body = passed,
                Err(_) => other = Some(Failure::Plugin.into()),
            }
        }
        let Some(instead) = other else { break };
        LocalBody { head, body } = make(session, ctx, instead, &mut passed)?;
    }
    // RFC 9110 §8.6: neither 1xx nor 204 has a length, and that of a 304 would describe another response.
    let lengthless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if head.status.is_informational() || lengthless {
        head.remove_header(&header::CONTENT_LENGTH);
    } else {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    // An unread request body must not be parsed as the next request. The shutdown may have begun during the request.
    if !session.is_body_done() || ctx.is_draining() {
        session.close_after_response();
    }
    let empty = body.is_empty() || !response_body::has_body(&session.request().method, head.status);
    // Over HTTP/2, END_STREAM on the header: a gRPC client reads the status from a header only then, not
    // before an empty DATA frame.
    session.write_head(head, empty).await?;
    if empty { Ok(()) } else { session.write_body(body, true).await }
}
