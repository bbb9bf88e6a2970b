//! An HTTP/1 connection, from its first request to its last.

use crate::proxy::{Connection, NewConnection, RequestService, RequestWait};
use std::sync::Arc;
use std::time::Duration;

/// Serves one connection, request by request. The first byte of its first request must arrive within `first`. RFC 9112
/// §9.3.2: pipelined requests are answered in order.
///
/// An idle connection is this future, so it has few parameters.
pub(super) async fn serve(
    mut connection: Box<Connection>,
    service: Arc<RequestService>,
    (first, new): (Duration, NewConnection),
) {
    let mut wait = RequestWait::First(first, new);
    while let Some(next) = service.serve_next(connection, wait).await {
        let Some(keepalive) = service.gateway.keepalive() else { return Box::pin(next.close()).await };
        (connection, wait) = (next, RequestWait::Next(keepalive));
    }
}
