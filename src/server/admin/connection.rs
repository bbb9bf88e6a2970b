//! One connection of the admin address: serves its requests within their time limits until it is closed.
//!
//! Nothing that a client does is logged above DEBUG.

use super::connection_limit::{Activity, ConnectionSlot, Scope};
use super::{Admin, ClientLimits, Response};
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::{Connection, Http1Session};
use crate::server::lingering_close;
use crate::snapshot::RequestLimits;
use crate::telemetry::quoted;
use bytes::BytesMut;
use http::header::EXPECT;
use http::{Method, StatusCode};
use log::debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The maximum request header in bytes, otherwise 431. A token and a browser's fields fit.
const MAX_HEAD: usize = 16 << 10;

/// How long an idle connection is kept.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The time limits of a probe connection for its header, and for its response.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// How much of a request body is read and discarded, and for how long, before the connection is closed.
const MAX_BODY: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

/// Serves a connection until it is closed, or evicted for another one.
pub(super) async fn serve(socket: TcpStream, peer: SocketAddr, place: ConnectionSlot, admin: Arc<Admin>) {
    tokio::select! {
        biased;
        () = place.evicted() => debug!(peer:%; "admin connection evicted"),
        () = Box::pin(run(socket, peer, &place, &admin)) => {}
    }
}

async fn run(socket: TcpStream, peer: SocketAddr, place: &ConnectionSlot, admin: &Admin) {
    let mut limits = admin.limits();
    if place.scope() == Scope::Probes {
        limits.header_timeout = limits.header_timeout.min(PROBE_TIME);
        limits.send_timeout = limits.send_timeout.min(PROBE_TIME);
    }
    let limit = limits.header_timeout;
    // The limit applies to a body as a whole.
    let head = RequestLimits { time: limit, size: MAX_HEAD, body_rate: None, send_rate: None };
    // Listener indices do not apply here.
    let conn_info = ConnInfo::plain(Some(peer), u16::MAX);
    let mut connection =
        Box::new(Connection::new(Socket::Tcp(socket), BytesMut::new(), conn_info, Arc::new(head), None));
    loop {
        connection.expect_head();
        let Some(mut session) = Http1Session::receive(connection, limit).await else { return };
        let keeps = exchange(&mut session, place, admin, limits).await;
        let may_continue = keeps && session.may_continue();
        connection = session.into_connection();
        place.set(Activity::Receiving);
        if !may_continue {
            break;
        }
        if !connection.await_request(KEEPALIVE).await {
            return;
        }
    }
    lingering_close::close(connection.into_parts().0, &[]).await;
}

/// One request and its response. Returns whether the connection may be kept.
async fn exchange(
    session: &mut Http1Session,
    place: &ConnectionSlot,
    admin: &Admin,
    limits: ClientLimits,
) -> bool {
    let head_only = session.request().method == Method::HEAD;
    let response = respond(session, place, admin).await;
    place.set(Activity::Sending);
    match timeout(limits.send_timeout, send(session, response, head_only)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let shown = error.to_string();
            debug!(error = quoted(&shown); "admin response not sent");
            false
        }
        Err(_) => {
            debug!("admin response not read in time");
            false
        }
    }
}

async fn respond(session: &mut Http1Session, place: &ConnectionSlot, admin: &Admin) -> Response {
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
    if !session.is_body_empty() && !discard_body(session).await {
        session.close_after_response();
    }
    place.set(Activity::Processing);
    admin.respond(session.request(), place.scope()).await
}

async fn send(session: &mut Http1Session, response: Response, head_only: bool) -> pingora::Result<()> {
    let (head, body) = response.into_parts(head_only);
    session.write_head(head, body.is_empty()).await?;
    if body.is_empty() { Ok(()) } else { session.write_body(body.into(), true).await }
}

/// Discards a request body. Returns whether it was complete.
async fn discard_body(session: &mut Http1Session) -> bool {
    // The client sends its body after a 100 (Continue), or not at all (RFC 9110 §10.1.1).
    if session.request().headers.contains_key(EXPECT) {
        return false;
    }
    let mut left = MAX_BODY;
    let discarded = timeout(BODY_TIME, async {
        loop {
            match session.read_body().await {
                Ok(None) => return true,
                Ok(Some(bytes)) if bytes.len() <= left => left -= bytes.len(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    });
    discarded.await.unwrap_or(false)
}
