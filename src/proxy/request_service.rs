//! Service of one request, over HTTP/1 or HTTP/2, from its header to its log entry.
//!
//! Pingora's own service of a request is one future with everything that its loop may need, and moving that
//! future costs more than most requests. It is used where its loop is: for HTTP/2 backends.

use super::context::Context;
use super::downstream::connection::Connection;
use super::downstream::http1_session::Http1Session;
use super::downstream::http2_session::Http2Session;
use super::downstream::session::Session;
use super::exchange::{self, Exchanged};
use super::request_start::Served;
use super::response::{request_end, upstream_response};
use super::upgrades::raw_tunnel_start;
use super::websocket::tunnel_task;
use super::{Gateway, NewConnection, pingora_loop, request_start};
use crate::upstream::close_idle_connections;
use pingora::apps::HttpServerApp;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;
use std::time::Duration;

/// What serves the requests of a worker.
#[derive(Clone)]
pub struct RequestService {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Pingora's loop.
    pub proxy: Arc<HttpProxy<Gateway>>,
    /// Says when connections should end.
    pub shutdown: ShutdownWatch,
}

/// How long a connection waits for a request.
#[derive(Debug)]
pub enum RequestWait {
    /// For its first one, also if the worker ends meanwhile: the client has just connected.
    First(Duration, NewConnection),
    /// For a further one, unless the worker ends.
    Next(Duration),
}

impl RequestService {
    /// Reads the next request of a connection, and serves it. Returns the connection if another request may follow.
    pub async fn serve_next(
        &self,
        mut connection: Box<Connection>,
        wait: RequestWait,
    ) -> Option<Box<Connection>> {
        let (head, _new) = match wait {
            // The connection stays a new one until its request is active.
            RequestWait::First(limit, new) => (connection.read_head(limit).await?, Some(new)),
            RequestWait::Next(limit) => {
                let mut shutdown = self.shutdown.clone();
                tokio::select! {
                    // A request that has been read is served.
                    biased;
                    head = connection.read_head(limit) => (head?, None),
                    _ = shutdown.wait_for(|is_ending| *is_ending) => return None,
                }
            }
        };
        // Boxed, so that an idle connection holds only what reads the next request.
        let session = Session::Http1(Box::new(Http1Session::new(connection, &head)));
        Box::pin(self.serve(session)).await
    }

    /// Ends the worker's idle connections to backends. The worker has ended.
    pub async fn close_idle_connections(&self) {
        close_idle_connections();
        pingora_loop::close_idle_connections(&self.proxy, &self.shutdown).await;
    }

    /// Serves the request of an HTTP/2 stream.
    pub async fn serve_stream(&self, session: Http2Session) {
        self.serve(Session::Http2(Box::new(session))).await;
    }

    async fn serve(&self, mut session: Session) -> Option<Box<Connection>> {
        let gateway = &*self.gateway;
        let mut ctx = request_start::open(gateway, &mut session);
        match request_start::route(gateway, &mut session, &mut ctx).await {
            Ok(Served::Response) => {}
            Ok(Served::Tunnel(start)) => {
                ctx.release();
                tunnel_task::spawn(gateway, *start, session);
                return None;
            }
            Ok(Served::Upgraded(start)) => {
                ctx.release();
                raw_tunnel_start::spawn(gateway, *start, session);
                return None;
            }
            Ok(Served::WithPingora) => return Box::pin(self.serve_with_pingora(session, ctx)).await,
            Err(error) => {
                Box::pin(upstream_response::give_up(&mut session, &error, &mut ctx)).await;
            }
        }
        request_end::end(&mut session, &mut ctx).await;
        session.finish().await
    }

    /// Serves a request by Pingora's loop, and by the HTTP/1.1 exchange at endpoints that choose it.
    async fn serve_with_pingora(&self, session: Session, ctx: Context) -> Option<Box<Connection>> {
        let (mut session, mut ctx) = (session, ctx);
        loop {
            let (lent, loan) = pingora_loop::lend(session, ctx);
            self.proxy.process_new_http(lent, &self.shutdown).await;
            let (own, returned) = loan.end()?;
            session = own;
            let Some(handed_back) = returned else { return session.finish().await };
            ctx = handed_back;
            match exchange::serve(&mut session, &mut ctx).await {
                Ok(Exchanged::NeedsHttp2) => {}
                // No request with an upgrade comes here.
                Ok(Exchanged::Response | Exchanged::Switched(_)) => break,
                Err(error) => {
                    upstream_response::give_up(&mut session, &error, &mut ctx).await;
                    break;
                }
            }
        }
        request_end::end(&mut session, &mut ctx).await;
        session.finish().await
    }
}
