//! A connection that speaks HTTP/1, from its first request to its last.

use super::connection_context::ConnectionContext;
use crate::proxy::{Connection, Gateway};
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;

/// Serves one connection, request by request.
pub(super) async fn serve(connection: Box<Connection>, house: ConnectionContext) {
    let ConnectionContext { proxy, shutdown, limits, .. } = house;
    // Until the first byte a new connection has as long as a head may take. The connection itself keeps that time once
    // a head has begun, and is a little earlier than this.
    let patience = |session: &mut ServerSession| session.set_keepalive(Some(limits.time.as_secs() + 1));
    let mut next = process(connection, patience, &proxy, &shutdown).await;
    while let Some((stream, settings)) = next.map(ReusedHttpStream::consume) {
        let Ok(mut connection) = stream.into_any().downcast::<Connection>() else { return };
        // RFC 9112 §9.3.2: requests sent behind one another are answered in order. The connection gives
        // them out one by one, so Pingora's own pipelining stays off: bytes that it read too far would
        // be a disagreement, and end the connection.
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

/// The next request of a connection. The session is made here and not in [`serve`], whose future would
/// have room for two of them otherwise, and would be copied with it for every connection.
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
