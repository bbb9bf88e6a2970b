//! What comes before a connection's first request: the PROXY protocol, TLS, and which HTTP it is going to
//! speak.

use super::connection_context::ConnectionContext;
use super::h2c_detect::Speaks;
use super::{h2c_detect, http1, http2, proxy_header, tls_handshake};
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::Connection;
use crate::snapshot::ListenerProtocols;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Takes a connection in and serves it to its end.
pub(super) async fn enter(
    socket: Socket,
    mut arrival: ConnInfo,
    greeting: Arc<ListenerProtocols>,
    house: ConnectionContext,
    permit: Option<OwnedSemaphorePermit>,
) {
    let mut house = house;
    let mut socket = socket;
    if let Some(balancers) = &greeting.balancers
        && !proxy_header::hear(balancers, &mut socket, &mut arrival, house.limits.time).await
    {
        return;
    }
    let mut early = BytesMut::new();
    // Streams of HTTP/2 do not know their connection's socket.
    arrival.local = socket.local_addr();
    let mut h2 = greeting.h2c;
    if let Some(tls) = &greeting.tls {
        let secured = tls_handshake::shake(socket, tls, arrival.peer, house.limits.time).await;
        let Some(secured) = secured else { return };
        socket = secured.socket;
        arrival.tls = Some(secured.facts);
        h2 = secured.h2;
    } else if greeting.h2c {
        let Ok((speaks, read)) = h2c_detect::read(&mut socket, house.limits.time).await else { return };
        early = read;
        h2 = speaks == Speaks::Http2;
        if !greeting.http1 && !h2 {
            return http2::refuse_preface(socket, arrival, house, speaks == Speaks::Undecided).await;
        }
        if speaks == Speaks::Undecided {
            if early.is_empty() {
                return;
            }
            // Its time is over: HTTP/1 says so at once.
            house.limits.time = Duration::ZERO;
        }
    }
    if h2 {
        http2::serve(socket, early, arrival, house).await;
        drop(permit);
    } else {
        let connection = Connection::new(socket, early, arrival, house.limits, permit);
        http1::serve(Box::new(connection), house).await;
    }
}
