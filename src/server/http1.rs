//! An HTTP/1 connection, from its first request to its last.

use super::connection_context::ConnectionContext;
use crate::proxy::Connection;

/// Serves one connection, request by request. RFC 9112 §9.3.2: pipelined requests are answered in order.
pub(super) async fn serve(mut connection: Box<Connection>, context: ConnectionContext) {
    let ConnectionContext { service, limits } = context;
    // The first byte of a new connection must arrive within the header timeout.
    let mut idle = limits.time;
    while let Some(next) = service.serve_next(connection, idle).await {
        let Some(keepalive) = service.gateway.keepalive() else { return next.close().await };
        (connection, idle) = (next, keepalive);
    }
}
