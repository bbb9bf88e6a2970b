//! One connection of the admin address: serves its requests within their time limits until it is closed.
//!
//! A stream of events has no time limit as a whole; each of its parts has the limit of a response.
//!
//! Nothing that a client does is logged above DEBUG.

use super::connection_limit::{Activity, ConnectionSlot, Scope};
use super::response::{Body, EventSource, Response};
use super::{Admin, ClientLimits};
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::{Connection, Http1Session};
use crate::server::lingering_close;
use crate::snapshot::RequestLimits;
use crate::telemetry::quoted;
use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::{Method, StatusCode};
use log::debug;
use pingora::{Error, ErrorType};
use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The maximum request header in bytes, otherwise 431. A token and a browser's fields fit.
const MAX_HEAD: usize = 16 << 10;

/// How long an idle connection is kept.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The time limits of a probe connection for its header, and for its response.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// How much of a request body is read, and for how long, before the connection is closed.
const MAX_BODY: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

/// A stream without events gets a comment after this long, so that its end is noticed.
const STREAM_PAUSE: Duration = Duration::from_secs(15);

/// Serves a connection until it is closed, or evicted for another one.
pub(super) async fn serve(socket: TcpStream, peer: SocketAddr, place: ConnectionSlot, admin: Arc<Admin>) {
    tokio::select! {
        biased;
        () = place.evicted() => debug!(peer:%; "admin connection evicted"),
        () = Box::pin(run(socket, peer, &place, &admin)) => {}
    }
}

async fn run(socket: TcpStream, peer: SocketAddr, place: &ConnectionSlot, admin: &Arc<Admin>) {
    let mut limits = admin.limits();
    if place.scope() == Scope::Probes {
        limits.header_timeout = limits.header_timeout.min(PROBE_TIME);
        limits.send_timeout = limits.send_timeout.min(PROBE_TIME);
    }
    let limit = limits.header_timeout;
    // The limit applies to a body as a whole.
    let head = RequestLimits { time: limit, size: MAX_HEAD, body_rate: None, send_rate: None };
    // Routes and logs of listeners do not apply here.
    let conn_info = ConnInfo::plain(Some(peer), "admin".into());
    let mut connection =
        Box::new(Connection::new(Socket::Tcp(socket), BytesMut::new(), conn_info, Arc::new(head), None));
    loop {
        connection.expect_head();
        let Some(mut session) = Http1Session::receive(connection, limit).await else { return };
        let keeps = exchange(&mut session, place, admin, (limits, peer)).await;
        let may_continue = keeps && session.may_continue();
        connection = session.into_connection();
        place.set(Activity::Receiving);
        if !may_continue {
            break;
        }
        if admin.is_retired() || !connection.await_request(KEEPALIVE).await {
            return;
        }
    }
    lingering_close::close(connection.into_parts().0, &[]).await;
}

/// One request and its response. Returns whether the connection may be kept.
async fn exchange(
    session: &mut Http1Session,
    place: &ConnectionSlot,
    admin: &Arc<Admin>,
    (limits, peer): (ClientLimits, SocketAddr),
) -> bool {
    let response = respond(session, place, admin, peer).await;
    place.set(Activity::Sending);
    match send(session, response, limits.send_timeout).await {
        Ok(()) => true,
        Err(error) => {
            let shown = error.to_string();
            debug!(error = quoted(&shown); "admin response not sent");
            false
        }
    }
}

async fn respond(
    session: &mut Http1Session,
    place: &ConnectionSlot,
    admin: &Arc<Admin>,
    peer: SocketAddr,
) -> Response {
    if place.scope() == Scope::Probes {
        session.close_after_response();
    }
    if let Some(refused) = session.refused() {
        session.close_after_response();
        let status = refused.status().unwrap_or(StatusCode::BAD_REQUEST);
        return Response::error(status, refused.token());
    }
    if session.head_size() > MAX_HEAD {
        session.close_after_response();
        return Response::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large");
    }
    if admin.is_authenticated(&session.request().headers) {
        place.authenticate();
    }
    if admin.is_retired() {
        session.close_after_response();
    }
    let mut body = Vec::new();
    if !session.is_body_empty() && !read_body(session, &mut body).await {
        session.close_after_response();
    }
    place.set(Activity::Processing);
    admin.respond(session.request(), &body, place.scope(), peer).await
}

async fn send(session: &mut Http1Session, response: Response, limit: Duration) -> pingora::Result<()> {
    let head_only = session.request().method == Method::HEAD;
    let (head, body) = response.into_parts();
    match body {
        Body::Whole(body) => {
            let sent = async {
                let is_empty = head_only || body.is_empty();
                session.write_head(head, is_empty).await?;
                match body {
                    _ if is_empty => Ok(()),
                    Cow::Borrowed(body) => {
                        session.write_body(Bytes::from_static(body.as_bytes()), true).await
                    }
                    Cow::Owned(body) => session.write_body(body.into(), true).await,
                }
            };
            within(limit, sent).await
        }
        Body::Events(_) if head_only => within(limit, session.write_head(head, true)).await,
        Body::Events(events) => {
            within(limit, async {
                session.write_head(head, false).await?;
                session.flush().await
            })
            .await?;
            stream(session, events, limit).await
        }
    }
}

/// Sends events until their source ends or the client disconnects.
async fn stream(
    session: &mut Http1Session,
    mut events: Box<dyn EventSource>,
    limit: Duration,
) -> pingora::Result<()> {
    let mut last = Instant::now();
    loop {
        let next = tokio::select! {
            () = session.closed() => return Ok(()),
            next = timeout(STREAM_PAUSE, events.next()) => next,
        };
        let text = match next {
            Ok(None) => return within(limit, session.write_body(Bytes::new(), true)).await,
            Ok(Some(text)) if !text.is_empty() => text,
            _ if last.elapsed() >= STREAM_PAUSE => ": ping\n\n".to_owned(),
            _ => continue,
        };
        last = Instant::now();
        within(limit, async {
            session.write_body(text.into(), false).await?;
            session.flush().await
        })
        .await?;
    }
}

/// Limits the time of a write.
async fn within(limit: Duration, write: impl Future<Output = pingora::Result<()>>) -> pingora::Result<()> {
    match timeout(limit, write).await {
        Ok(result) => result,
        Err(_) => Err(Error::explain(ErrorType::WriteTimedout, "admin response not read in time")),
    }
}

/// Reads a request body. Returns whether it was complete.
async fn read_body(session: &mut Http1Session, body: &mut Vec<u8>) -> bool {
    // The client sends its body after a 100 (Continue), or not at all (RFC 9110 §10.1.1).
    if session.request().headers.contains_key(EXPECT) {
        return false;
    }
    let read = timeout(BODY_TIME, async {
        loop {
            match session.read_body().await {
                Ok(None) => return true,
                Ok(Some(bytes)) if body.len() + bytes.len() <= MAX_BODY => body.extend_from_slice(&bytes),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    });
    read.await.unwrap_or(false)
}
