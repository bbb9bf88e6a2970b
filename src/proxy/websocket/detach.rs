//! A client's connection leaves Pingora here: the session's stream is taken out, with every byte
//! that was read behind the request's head, or one of HTTP/2's streams, and an empty session ends in
//! its place.

use super::h2_tunnel_io::Duplex;
use crate::net::downstream_io::Socket;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::h2_session::take_stream;
use crate::tunnel::TunnelIo;
use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::server::Session as Downstream;
use pingora_proxy::Session;
use std::io::Cursor;
use tokio::sync::OwnedSemaphorePermit;

/// The client's side of a tunnel, the bytes that it sent early, and the listener's room for its connection; or `None` when the connection is
/// not one of ours or broke meanwhile.
///
/// From here on the session knows nothing of the request: what the log needs is in the context.
pub(in crate::proxy) async fn take(
    session: &mut Session,
) -> Option<(TunnelIo, Bytes, Option<OwnedSemaphorePermit>)> {
    let empty = Downstream::new_http1(Box::new(Cursor::new(Vec::new())));
    let mut owned = std::mem::replace(session.as_downstream_mut(), empty);
    // A session gives its stream back for reuse only; the next "request" on it is the tunnel.
    owned.set_keepalive(Some(1));
    let session = match owned {
        ServerSession::H1(session) => session,
        stream => {
            // Its connection, which outlives it, has the room.
            return Some((TunnelIo::Boxed(Box::new(Duplex::new(take_stream(stream)?))), Bytes::new(), None));
        }
    };
    // The connection keeps what came behind the request; Pingora has seen nothing of it.
    let (stream, _) = session.reuse().await.ok()??.into_parts();
    let connection = stream.into_any().downcast::<Connection>().ok()?;
    let (socket, behind, permit) = connection.into_parts();
    let leg = match socket {
        Socket::Tcp(socket) => TunnelIo::from(socket),
        Socket::Unix(socket) => TunnelIo::from(socket),
        Socket::Tls(stream) => TunnelIo::Boxed(stream),
    };
    Some((leg, behind, permit))
}
