//! The proxy: a request from its header to its log entry.
//!
//! In the order of a request: `downstream` receives it, `request_service` serves it, `request_start` validates and
//! routes it (`request`), plugins see it (`body`), `exchange` sends it to an HTTP/1.1 upstream, or `pingora_loop` to
//! an HTTP/2 upstream, or `websocket` or `upgrades` open a tunnel; `response` completes the response and the log entry.
//! `attempt` has what requests to HTTP/1.1 and HTTP/2 upstreams share, and `failure` why one fails.
//! `context` is the state of a request; `upload`, `replacement_response` and `request_trace` are parts of it.
//! `tracing` has the facts of spans.

mod attempt;
mod body;
mod context;
mod downstream;
mod exchange;
mod explain;
mod failure;
mod forwarded_trailers;
#[cfg(any(test, fuzzing))]
pub mod forwarding_invariants;
mod message_fields;
mod moved_tunnel;
mod pingora_loop;
mod replacement_response;
mod request;
mod request_service;
mod request_start;
mod request_trace;
mod response;
#[cfg(any(test, fuzzing))]
pub mod response_invariants;
mod tracing;
mod upgrades;
mod upload;
mod websocket;

pub use downstream::connection::Connection;
pub use downstream::http1_session::Http1Session;
pub use downstream::http2_session::{ReceivedStream, StreamRates};
pub use explain::{ExplainRequest, RouteExplanation, explain};
pub use failure::Failure;
pub use moved_tunnel::MovedTunnel;
pub use pingora_loop::LentRequest;
pub use request::forwarded::Client;
pub use request_service::{RequestService, RequestWait};

use crate::control::Live;
use crate::net::conn_info::ConnInfo;
use crate::snapshot::{Address, ListenerProtocols, RequestLimits};
use crate::tunnel::Registry;
pub use context::NewConnection;

use context::{ActiveRequests, Busy};
use moongate_sdk::Services;
use parking_lot::Mutex;
use response::request_end;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The state that all workers share.
pub struct Shared {
    /// The current configuration.
    pub live: Arc<Live>,
    /// The open tunnels.
    pub tunnels: Arc<Registry>,
    /// The services for plugins.
    services: Arc<dyn Services>,
    draining: Arc<AtomicBool>,
    /// Connections whose clients were sent GOAWAY and are still open.
    leaving: Arc<ActiveRequests>,
    /// Active requests, one counter per worker to avoid sharing a cache line.
    busy: Mutex<Vec<Arc<ActiveRequests>>>,
}

impl Shared {
    /// Creates the state without active requests.
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            tunnels: Arc::clone(live.tunnels()),
            services: Arc::clone(live.services()),
            live,
            draining: Arc::default(),
            leaving: Arc::default(),
            busy: Mutex::default(),
        }
    }

    /// From now on, connections are closed after their responses.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The number of active requests.
    pub fn requests(&self) -> usize {
        self.busy.lock().iter().map(|active| active.count()).sum()
    }

    /// The number of connections that have not sent their first request.
    pub fn new_connections(&self) -> usize {
        self.busy.lock().iter().map(|active| active.new_connections()).sum()
    }

    /// Returns whether no request is active, the last bytes of HTTP/2 responses included.
    pub fn is_idle(&self) -> bool {
        self.requests() == 0 && self.leaving.count() == 0
    }
}

/// The current generation's limits of an HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// The maximum size of a request header in bytes; 431 above it.
    pub head: usize,
    /// How long the connection is kept without a request; zero means that it ends with its last request.
    pub idle: Duration,
    /// The maximum wait for the first request if `idle` is zero.
    pub first: Duration,
    /// The maximum wait for a client that does not read.
    pub send: Duration,
    /// The minimum rates of its streams.
    pub rates: StreamRates,
}

/// A connection whose client was sent GOAWAY; the shutdown waits until it is dropped.
pub struct GoingAway(#[expect(dead_code, reason = "it counts while it lives")] Busy);

/// The gateway of one worker. Pingora's loop calls it as `ProxyHttp`.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    busy: Arc<ActiveRequests>,
}

impl Gateway {
    /// Creates the gateway of one more worker.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let busy = ActiveRequests::new(&shared.draining);
        let mut all = shared.busy.lock();
        // Those of workers that have ended.
        all.retain(|known| Arc::strong_count(known) > 1);
        all.push(Arc::clone(&busy));
        drop(all);
        Self { shared: Arc::clone(shared), busy }
    }

    /// The current generation's limits of a request, and the protocols of a listener at this address: `Some(None)` for
    /// plain HTTP/1, `None` if the generation does not have it.
    pub fn connection_settings(
        &self,
        listener: &str,
        address: &Address,
    ) -> (Arc<RequestLimits>, Option<Option<Arc<ListenerProtocols>>>) {
        let snapshot = self.shared.live.look();
        let listener = snapshot.listener(listener).filter(|listener| listener.address == *address);
        (Arc::clone(&snapshot.globals.request_limits), listener.map(|listener| listener.protocols.clone()))
    }

    /// Counts a connection until its first request.
    pub fn new_connection(&self) -> NewConnection {
        NewConnection::new(&self.busy)
    }

    /// The current generation's limits of an HTTP/2 connection.
    pub fn streams(&self) -> StreamLimits {
        let globals = &self.shared.live.look().globals;
        let limits = &globals.request_limits;
        StreamLimits {
            head: limits.size,
            idle: globals.keepalive_timeout,
            first: limits.time,
            send: globals.send_timeout,
            rates: StreamRates { body: limits.body_rate, send: limits.send_rate },
        }
    }

    /// Counts and logs an HTTP/2 request that was rejected before the proxy.
    pub fn refused_stream(&self, conn_info: &ConnInfo, failure: Failure) {
        request_end::refused_stream(&self.shared.live.look(), conn_info, failure);
    }

    /// Returns whether the process shuts down.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Counts a connection whose client was sent GOAWAY.
    pub fn leaving(&self) -> GoingAway {
        GoingAway(Busy::new(&self.shared.leaving))
    }

    /// How long an idle connection is kept; `None` without keep-alive.
    pub fn keepalive(&self) -> Option<Duration> {
        let keep = self.shared.live.look().globals.keepalive_timeout;
        (!keep.is_zero() && !self.shared.is_draining()).then_some(keep)
    }
}
