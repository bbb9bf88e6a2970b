//! One connection of the admin address: serves its requests within their time limits until it is closed.
//!
//! Pingora parses; [`Connection`] finds the end of each request and limits its header. Nothing that a client
//! does is logged above DEBUG.

use super::connection_limit::{Activity, ConnectionSlot, Scope};
use super::{Admin, ClientLimits, Response};
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::net::http1::message_framing::Reading;
use crate::proxy::{Connection, RequestLimits};
use crate::server::lingering_close;
use crate::telemetry::quoted;
use bytes::BytesMut;
use http::header::EXPECT;
use http::{Method, StatusCode};
use log::debug;
use pingora::ErrorType;
use pingora::protocols::http::v1::server::HttpSession;
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
    let head =
        RequestLimits { time: limit, size: MAX_HEAD, body_rate: None, send_rate: None, idle: KEEPALIVE };
    // Listener indices do not apply here.
    let conn_info = ConnInfo::plain(Some(peer), u16::MAX);
    let socket = Socket::Tcp(socket);
    let mut connection = Box::new(Connection::new(socket, BytesMut::new(), conn_info, head, None));
    loop {
        connection.expect_head();
        let mut session = HttpSession::new(connection);
        let keep = exchange(&mut session, place, admin, limits).await;
        let Ok(returned) = session.into_inner().into_any().downcast::<Connection>() else { return };
        connection = returned;
        place.set(Activity::Receiving);
        if !keep || !connection.next_request() {
            break;
        }
        if !matches!(timeout(KEEPALIVE, connection.await_request()).await, Ok(Ok(true))) {
            return;
        }
    }
    lingering_close::close(connection.into_parts().0, &[]).await;
}

/// One request and its response. Returns whether the connection may be kept.
async fn exchange(
    session: &mut HttpSession,
    place: &ConnectionSlot,
    admin: &Admin,
    limits: ClientLimits,
) -> bool {
    // The connection enforces the limit of the whole header; Pingora's limit is per read.
    session.set_read_timeout(None);
    let mut head_only = false;
    let response = match session.read_request().await {
        Ok(Some(size)) => {
            head_only = session.req_header().method == Method::HEAD;
            respond(session, size, place, admin).await
        }
        Ok(None) => return false,
        Err(error) => {
            let shown = error.to_string();
            debug!(error = quoted(&shown); "admin request not read");
            // After any other error the connection itself has sent 408 or 431.
            if *error.etype() != ErrorType::InvalidHTTPHeader {
                return false;
            }
            session.set_server_keepalive(None);
            Response::error(StatusCode::BAD_REQUEST, "bad_request")
        }
    };
    place.set(Activity::Sending);
    match timeout(limits.send_timeout, send(session, response, head_only)).await {
        Ok(Ok(())) => session.will_keepalive(),
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

/// The response to a request with a complete header of `size` bytes.
async fn respond(session: &mut HttpSession, size: usize, place: &ConnectionSlot, admin: &Admin) -> Response {
    if place.scope() == Scope::Probes {
        session.set_server_keepalive(None);
    }
    let connection = session.stream().as_any().downcast_ref::<Connection>();
    let refused = if let Some(refusal) = connection.and_then(Connection::refusal) {
        Some(refusal)
    } else if size > MAX_HEAD {
        Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"))
    } else if connection
        .is_none_or(|connection| connection.compare(size, &session.req_header().headers) == Reading::Doubtful)
    {
        Some((StatusCode::BAD_REQUEST, "bad_request"))
    } else {
        None
    };
    if let Some((status, token)) = refused {
        session.set_server_keepalive(None);
        return Response::error(status, token);
    }
    if admin.is_authenticated(&session.req_header().headers) {
        place.authenticate();
    }
    if !session.is_body_empty() && !discard_body(session).await {
        session.set_server_keepalive(None);
    }
    place.set(Activity::Processing);
    admin.respond(session.req_header(), place.scope()).await
}

async fn send(session: &mut HttpSession, response: Response, head_only: bool) -> pingora::Result<()> {
    let (head, body) = response.into_parts(head_only);
    session.write_response_header(Box::new(head)).await?;
    if !body.is_empty() {
        session.write_body(&body).await?;
    }
    session.finish_body().await?;
    Ok(())
}

/// Discards a request body. Returns whether it was complete.
async fn discard_body(session: &mut HttpSession) -> bool {
    // The client sends its body after a 100 (Continue), or not at all (RFC 9110 §10.1.1).
    if session.req_header().headers.contains_key(EXPECT) {
        return false;
    }
    let mut left = MAX_BODY;
    let discarded = timeout(BODY_TIME, async {
        loop {
            match session.read_body_bytes().await {
                Ok(None) => return true,
                Ok(Some(bytes)) if bytes.len() <= left => left -= bytes.len(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    });
    discarded.await.unwrap_or(false)
}
