//! An HTTP/1 connection, from its first request to its last.

use super::connection_context::ConnectionContext;
use crate::proxy::{self, Connection};
use pingora::protocols::http::ServerSession;

/// Serves one connection, request by request.
pub(super) async fn serve(connection: Box<Connection>, context: ConnectionContext) {
    let ConnectionContext { proxy, shutdown, limits, gateway } = context;
    // The first byte of a new connection must arrive within the header timeout. The connection enforces that
    // limit once a header has begun, slightly earlier than this.
    let timeouts = |session: &mut ServerSession| session.set_keepalive(Some(limits.time.as_secs() + 1));
    let mut next = proxy::serve_request(connection, timeouts, &gateway, &proxy, &shutdown).await;
    while let Some((mut connection, settings)) = next {
        // RFC 9112 §9.3.2: pipelined requests are answered in order. The connection returns them one by one,
        // and Pingora's own pipelining stays off: bytes read too far are a disagreement, and close the
        // connection.
        if !connection.next_request() {
            return;
        }
        let settings = |session: &mut ServerSession| settings.apply_to_session(session);
        next = proxy::serve_request(connection, settings, &gateway, &proxy, &shutdown).await;
    }
}
