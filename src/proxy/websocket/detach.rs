//! Detaching of a client's connection from Pingora: takes the session's stream, with every byte read after
//! the request header, or the HTTP/2 stream. An empty session ends in its place.

use super::h2_tunnel_io::Duplex;
use crate::net::downstream_io::Socket;
use crate::proxy::downstream::client_stream::Connection;
use crate::proxy::downstream::h2_session::take_stream;
use crate::tunnel::TunnelIo;
use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::server::Session as Downstream;
use pingora_proxy::Session;
use std::io::Cursor;
use tokio::sync::OwnedSemaphorePermit;

/// The client's side of a tunnel, its early bytes, and the listener's permit of its connection; `None` if the
/// connection is foreign or failed.
///
/// Afterwards the session knows nothing of the request: the context has what the log needs.
pub(in crate::proxy) async fn take(
    session: &mut Session,
) -> Option<(TunnelIo, Bytes, Option<OwnedSemaphorePermit>)> {
    let empty = Downstream::new_http1(Box::new(Cursor::new(Vec::new())));
    let mut owned = std::mem::replace(session.as_downstream_mut(), empty);
    // A session returns its stream only for reuse.
    owned.set_keepalive(Some(1));
    let session = match owned {
        ServerSession::H1(session) => session,
        stream => {
            // Its connection outlives it and holds the permit.
            return Some((TunnelIo::Boxed(Box::new(Duplex::new(take_stream(stream)?))), Bytes::new(), None));
        }
    };
    // The connection keeps the bytes after the request; Pingora has not seen them.
    let (stream, _) = session.reuse().await.ok()??.into_parts();
    let connection = stream.into_any().downcast::<Connection>().ok()?;
    let (socket, behind, permit) = connection.into_parts();
    let tunnel_io = match socket {
        Socket::Tcp(socket) => TunnelIo::from(socket),
        Socket::Unix(socket) => TunnelIo::from(socket),
        Socket::Tls(stream) => TunnelIo::Boxed(stream),
    };
    Some((tunnel_io, behind, permit))
}
