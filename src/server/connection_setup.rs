//! Start of a connection before its first request: PROXY protocol, TLS, and the choice of HTTP version.

use super::connection_context::ConnectionContext;
use super::h2c_detect::DetectedProtocol;
use super::{h2c_detect, http1, http2, proxy_header, tls_handshake};
use crate::net::conn_info::ConnInfo;
use crate::net::connection_permit::ConnectionPermit;
use crate::net::downstream_io::Socket;
use crate::proxy::{Connection, NewConnection};
use crate::snapshot::{ListenerProtocols, RequestLimits};
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;

/// Accepts a connection and serves it to its end.
pub(super) async fn serve_connection(
    socket: Socket,
    mut conn_info: ConnInfo,
    protocols: Arc<ListenerProtocols>,
    context: ConnectionContext,
    (permit, new): (ConnectionPermit, NewConnection),
) {
    let mut context = context;
    let mut socket = socket;
    if let Some(balancers) = &protocols.proxy_protocol_sources
        && !proxy_header::read_header(balancers, &mut socket, &mut conn_info, context.limits.time).await
    {
        return;
    }
    let mut early = BytesMut::new();
    // HTTP/2 streams have no access to their connection's socket.
    conn_info.local = socket.local_addr();
    let mut h2 = protocols.h2c;
    if let Some(tls) = &protocols.tls {
        let secured = tls_handshake::handshake(socket, tls, conn_info.peer, context.limits.time).await;
        let Some(secured) = secured else { return };
        socket = secured.socket;
        conn_info.tls = Some(secured.facts);
        h2 = secured.h2;
    } else if protocols.h2c {
        let Ok((speaks, read)) = h2c_detect::read(&mut socket, context.limits.time).await else { return };
        early = read;
        h2 = speaks == DetectedProtocol::Http2;
        if !protocols.http1 && !h2 {
            return http2::refuse_preface(socket, conn_info, context, speaks == DetectedProtocol::Undecided)
                .await;
        }
        if speaks == DetectedProtocol::Undecided {
            if early.is_empty() {
                return;
            }
            // The time limit has passed: HTTP/1 responds with 408 at once.
            context.limits = Arc::new(RequestLimits { time: Duration::ZERO, ..*context.limits });
        }
    }
    if h2 {
        // An HTTP/2 connection ends with GOAWAY, whatever it has sent.
        drop(new);
        http2::serve(socket, early, conn_info, context).await;
        drop(permit);
    } else {
        let first = context.limits.time;
        let connection = Connection::new(socket, early, conn_info, context.limits, Some(permit));
        http1::serve(Box::new(connection), context.service, (first, new)).await;
    }
}
