//! Service of one HTTP/1 request: the hooks of the gateway in Pingora's order, without Pingora's proxy loop.
//!
//! Pingora's own service of a request is one future with everything that its loop may need, and moving that
//! future costs more than most requests. It is used where its loop is: for HTTP/2 upstreams. The session and
//! the context then move into it, when it has read a placeholder for the request.

use super::context::Context;
use super::downstream::client_stream::Connection;
use super::response::upstream_response;
use super::{Gateway, request_start};
use bytes::BytesMut;
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

/// The request that Pingora's service reads before it gets the session of the client.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nHost: moongate\r\n\r\n";

/// A request that was read, checked and routed, on its way to Pingora's loop.
pub(super) struct RoutedRequest {
    session: ServerSession,
    ctx: Context,
}

impl RoutedRequest {
    /// Continues the request in Pingora's service, in place of the placeholder.
    pub(super) fn resume(routed: Box<dyn Any + Send + Sync>, session: &mut Session, ctx: &mut Context) {
        if let Ok(routed) = routed.downcast::<Self>() {
            *session.as_downstream_mut() = routed.session;
            *ctx = routed.ctx;
        }
    }
}

/// A connection whose next request may be read, and the settings of its sessions.
pub type NextRequest = (Box<Connection>, HttpPersistentSettings);

/// Reads and serves the next request of a connection. Returns the connection if another request may follow.
pub async fn serve_request(
    connection: Box<Connection>,
    settings: impl FnOnce(&mut ServerSession),
    gateway: &Gateway,
    proxy: &Arc<HttpProxy<Gateway>>,
    shutdown: &ShutdownWatch,
) -> Option<NextRequest> {
    let mut session = Session::new_h1(connection);
    settings(session.as_downstream_mut());
    if !read_request(&mut session, shutdown).await {
        return None;
    }
    if *shutdown.borrow() {
        session.set_keepalive(None);
    }
    // Boxed, so that an idle connection holds only what reads the next request.
    Box::pin(serve(session, gateway, proxy, shutdown)).await
}

/// Reads the header of a request. Returns whether there is one; the connection ends otherwise.
async fn read_request(session: &mut Session, shutdown: &ShutdownWatch) -> bool {
    let mut ending = shutdown.clone();
    let downstream = session.as_downstream_mut();
    let read = tokio::select! {
        // A request that has been read is served.
        biased;
        read = downstream.read_request() => read,
        _ = ending.wait_for(|is_ending| *is_ending) => return false,
    };
    match read {
        Ok(has_request) => has_request,
        Err(error) => {
            if *error.etype() == ErrorType::InvalidHTTPHeader {
                // The client may be gone, which ends the connection as well.
                let _ = downstream.respond_error(400).await;
            }
            downstream.shutdown().await;
            false
        }
    }
}

async fn serve(
    mut session: Session,
    gateway: &Gateway,
    proxy: &Arc<HttpProxy<Gateway>>,
    shutdown: &ShutdownWatch,
) -> Option<NextRequest> {
    let mut ctx = gateway.new_ctx();
    request_start::open(gateway, &mut session, &mut ctx);
    match request_start::route(gateway, &mut session, &mut ctx).await {
        Ok(true) => {
            gateway.logging(&mut session, None, &mut ctx).await;
            finish(session).await
        }
        Ok(false) => {
            let session = std::mem::replace(session.as_downstream_mut(), placeholder());
            serve_with_pingora(RoutedRequest { session, ctx }, proxy, shutdown).await
        }
        Err(error) => {
            // It never allows another request.
            upstream_response::give_up(&mut session, &error, &mut ctx).await;
            gateway.logging(&mut session, Some(&error), &mut ctx).await;
            None
        }
    }
}

/// Ends the response, and returns the connection if it is kept.
async fn finish(session: Session) -> Option<NextRequest> {
    let settings = HttpPersistentSettings::for_session(&session);
    let reusable = session.downstream_session.finish().await.ok()??;
    let (stream, _) = reusable.into_parts();
    Some((stream.into_any().downcast().ok()?, settings))
}

async fn serve_with_pingora(
    mut routed: RoutedRequest,
    proxy: &Arc<HttpProxy<Gateway>>,
    shutdown: &ShutdownWatch,
) -> Option<NextRequest> {
    routed.ctx.is_routed = true;
    let mut session = placeholder();
    session.set_connection_user_context(Some(Box::new(routed)));
    let (stream, settings) = proxy.process_new_http(session, shutdown).await?.consume();
    Some((stream.into_any().downcast().ok()?, settings?))
}

/// A session that reads the placeholder.
fn placeholder() -> ServerSession {
    let mut session = ServerSession::new_http1(Box::new(Cursor::new(Vec::new())));
    session.set_pipelined_prefix(BytesMut::from(PLACEHOLDER));
    session
}
