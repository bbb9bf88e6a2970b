//! An HTTP/1 connection, from its first request to its last.

use super::connection_context::ConnectionContext;
use crate::proxy::{Connection, Gateway};
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;

/// Serves one connection, request by request.
pub(super) async fn serve(connection: Box<Connection>, context: ConnectionContext) {
    let ConnectionContext { proxy, shutdown, limits, .. } = context;
    // The first byte of a new connection must arrive within the header timeout. The connection enforces that
    // limit once a header has begun, slightly earlier than this.
    let timeouts = |session: &mut ServerSession| session.set_keepalive(Some(limits.time.as_secs() + 1));
    let mut next = process(connection, timeouts, &proxy, &shutdown).await;
    while let Some((stream, settings)) = next.map(ReusedHttpStream::consume) {
        let Ok(mut connection) = stream.into_any().downcast::<Connection>() else { return };
        // RFC 9112 §9.3.2: pipelined requests are answered in order. The connection returns them one by one,
        // and Pingora's own pipelining stays off: bytes read too far are a disagreement, and close the
        // connection.
        if !connection.next_request() {
            return;
        }
        let settings = |session: &mut ServerSession| {
            if let Some(settings) = settings {
                settings.apply_to_session(session);
            }
        };
        next = process(connection, settings, &proxy, &shutdown).await;
    }
}

/// The next request of a connection. The session is created here, because the future of [`serve`] would
/// otherwise reserve space for two sessions in every connection.
fn process<'a>(
    connection: Box<Connection>,
    settings: impl FnOnce(&mut ServerSession),
    proxy: &'a Arc<HttpProxy<Gateway>>,
    shutdown: &'a ShutdownWatch,
) -> impl Future<Output = Option<ReusedHttpStream>> + Send + 'a {
    let mut session = ServerSession::new_http1(connection);
    settings(&mut session);
    proxy.process_new_http(session, shutdown)
}
