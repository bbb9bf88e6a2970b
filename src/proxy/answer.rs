//! The way back: the last changes to an answer's head, answers to a handshake that are no 101, and
//! the end of a request that nobody could serve.

use super::connection::Connection;
use super::context::Context;
use super::exchange::{self, Line};
use super::failure::Failure;
use super::intake::{connection, target};
use super::{forward, respond};
use crate::tunnel::Leg;
use crate::upstream::RequestView;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use moongate_sdk::{Answer, Fields, Headers, Sent};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession as Upstream;
use pingora::protocols::l4::stream::Stream as Transport;
use pingora::{Error, Result};
use pingora_proxy::{FailToProxy, Session};

/// The last changes to the head of an answer, wherever it comes from.
///
/// # Errors
/// When a value cannot be a field value, which is excluded.
pub(super) async fn finish_head(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    // RFC 9112 §6.1: no transfer coding to HTTP/1.0, whose bodies end with their connection.
    if session.req_header().version == Version::HTTP_10
        && head.headers.contains_key(header::TRANSFER_ENCODING)
    {
        head.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
    if let Some(cookie) = sticky(session, ctx) {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    let status = head.status;
    dress(session.req_header(), status, &mut ResponseFields(head), ctx).await;
    Ok(())
}

/// The same for the fields of a 101.
pub(super) async fn finish_upgrade(session: &Session, headers: &mut HeaderMap, ctx: &mut Context) {
    if let Some(cookie) = sticky(session, ctx) {
        headers.append(header::SET_COOKIE, cookie);
    }
    dress(session.req_header(), StatusCode::SWITCHING_PROTOCOLS, headers, ctx).await;
}

/// The cookie that brings the client back to this endpoint, when it does not have it yet.
fn sticky(session: &Session, ctx: &Context) -> Option<HeaderValue> {
    let (cluster, lease) = (ctx.cluster.as_ref()?, ctx.lease.as_ref()?);
    let head = session.req_header();
    let (path, query) = target(ctx.rewritten.as_deref(), &head.uri);
    let view = RequestView { client: ctx.client, headers: &head.headers, path, query };
    cluster.sticky_cookie(lease, &cluster.key(&view))
}

/// The plugins' part.
async fn dress(request: &RequestHeader, status: StatusCode, fields: &mut dyn Fields, ctx: &mut Context) {
    let Some(route) = ctx.route.clone().filter(|route| !route.chain.skips_response_headers()) else { return };
    // The request is over for the plugins by now: they see its fields and change only the answer's.
    let mut seen = Sent(&request.headers);
    let endpoint = ctx.last_endpoint.clone();
    let mut exchange = exchange::of(ctx, &route, Line::of(request), &mut seen);
    let endpoint = endpoint.as_ref().map(|endpoint| endpoint.name());
    let mut answer = Answer { status, headers: Headers::new(fields), endpoint };
    // A panic is logged by the chain; the answer goes out as the others left it.
    let _ = route.chain.response_headers(&mut exchange, &mut answer, &[]).await;
}

/// Passes on an answer to a handshake that is no 101: an ordinary answer, on a connection that stays
/// an ordinary one.
///
/// # Errors
/// When either side went away meanwhile.
pub(super) async fn pass_on(session: &mut Session, ctx: &mut Context, leg: Leg, read: &[u8]) -> Result<()> {
    let Some(stream) = replay(leg, read) else {
        return respond::failure(session, ctx, Failure::BadResponse).await;
    };
    let mut upstream = Upstream::new(stream);
    upstream.read_timeout = ctx.route.as_ref().map(|route| route.timeout);
    let mut head = loop {
        let Ok(head) = upstream.read_resp_header_parts().await else {
            return respond::failure(session, ctx, Failure::BadResponse).await;
        };
        if !head.status.is_informational() {
            break head;
        }
    };
    if !forward::frame_is_clear(&mut head)? {
        return respond::failure(session, ctx, Failure::BadResponse).await;
    }
    let via = ctx.snapshot.as_ref().is_some_and(|snapshot| snapshot.terms.via);
    forward::response(&mut head, via)?;
    finish_head(session, &mut head, ctx).await?;
    session.write_response_header(head, false).await?;
    loop {
        match upstream.read_body_bytes().await {
            Ok(Some(bytes)) => session.write_response_body(Some(bytes), false).await?,
            Ok(None) => break,
            // The answer breaks off, and the client's connection with it.
            Err(_) => {
                ctx.failure = Some(Failure::UpstreamClosed);
                session.set_keepalive(None);
                return Ok(());
            }
        }
    }
    session.write_response_body(None, true).await?;
    upstream.shutdown().await;
    Ok(())
}

/// The backend's connection as Pingora reads it, with what we have read of it put back.
fn replay(leg: Leg, read: &[u8]) -> Option<Stream> {
    let mut transport = match leg {
        Leg::Tcp(socket) => Transport::from(socket),
        Leg::Unix(socket) => Transport::from(socket),
        Leg::Boxed(_) | Leg::Gone => return None,
    };
    transport.rewind(read);
    Some(Box::new(transport))
}

/// Nobody could serve the request.
pub(super) async fn give_up(session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
    // Pingora only knows that a read failed.
    let failure = if connection(session).is_some_and(Connection::is_broken) {
        Failure::BadRequest
    } else {
        ctx.failure.unwrap_or_else(|| Failure::from(error))
    };
    // Pingora closes the client's connection behind a failed attempt; the answer says so.
    session.set_keepalive(None);
    // A client that is gone hears nothing; the log tells of it all the same.
    let _ = respond::failure(session, ctx, failure).await;
    FailToProxy { error_code: failure.row().status, can_reuse_downstream: false }
}

/// Where Pingora keeps the fields of an answer.
struct ResponseFields<'a>(&'a mut ResponseHeader);

impl Fields for ResponseFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        // A HeaderName and a HeaderValue are always taken.
        let _ = self.0.insert_header(name.clone(), value);
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.0.append_header(name.clone(), value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

/// Where Pingora keeps the fields of a request.
pub(super) struct RequestFields<'a>(pub(super) &'a mut RequestHeader);

impl Fields for RequestFields<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.0.insert_header(name.clone(), value);
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.0.append_header(name.clone(), value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}
