//! The state of one request, in the order of its phases: received, routed, seen by plugins, attempted, answered. Its
//! guards undo themselves: dropping the context releases everything, however the request ends.

use super::failure::Failure;
use super::failure::failed_attempt::Cause;
use super::replacement_response::ReplacementResponse;
use super::request::request_facts::{Received, RequestLine, split_target};
use super::request_trace::RequestTrace;
use super::upload::Upload;
use crate::snapshot::{Route, Snapshot, UpgradeOffer};
use crate::upstream::{Attempts, Cluster, Key, RequestView};
use http::{HeaderMap, HeaderName, Method};
use moongate_sdk::{Edits, Exchange, Fields, Headers, Request, RequestState, Services};
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// The response to a request, once its header has come.
#[derive(Default)]
pub(super) struct ResponseProgress {
    /// The chunks of its body pass plugins.
    pub(super) plugins_see_body: bool,
    /// The response that replaces the current one, which is aborted.
    pub(super) instead: Option<ReplacementResponse>,
    /// The fields that the `Connection` of the backend nominates.
    pub(super) nominated: Vec<HeaderName>,
    /// The client has its whole response, and further bytes of the backend are discarded.
    pub(super) is_replaced: bool,
}

/// The context of a request.
pub(super) struct Context {
    /// When the request header was complete.
    pub(super) started: Instant,
    /// The generation that serves it, pinned across reloads.
    pub(super) snapshot: Arc<Snapshot>,
    /// The facts about the request, determined when its header was received.
    pub(super) received: Received,
    /// The route.
    pub(super) route: Option<Arc<Route>>,
    /// The services for its plugins.
    pub(super) services: Arc<dyn Services>,
    /// The plugins' state of the request, and its request ID.
    pub(super) running: RequestState,
    /// The request body, if plugins read it.
    pub(super) upload: Upload,
    /// The protocols that the request offers besides WebSocket, and that its route lists.
    pub(super) upgrade: Option<Box<UpgradeOffer>>,
    /// The original fields of a request that opens a tunnel, if plugins recheck it.
    pub(super) original_fields: Option<Box<HeaderMap>>,
    /// Its attempts at endpoints.
    pub(super) attempts: Attempts,
    /// How often an endpoint turned out to use another HTTP version than expected.
    pub(super) version_changes: u8,
    /// The cause of the last attempt's failure, for the log.
    pub(super) cause: Cause,
    /// Why the last attempt failed, or why the gateway responds itself.
    pub(super) failure: Option<Failure>,
    /// The response, as far as it is known.
    pub(super) response: ResponseProgress,
    /// Its trace; `None` without `tracing`.
    pub(super) trace: Option<Box<RequestTrace>>,
    busy: Option<Busy>,
}

impl Context {
    /// Creates the context of a request whose facts are not determined yet.
    pub(super) fn new(snapshot: Arc<Snapshot>, busy: Busy, services: Arc<dyn Services>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            snapshot,
            received: Received::default(),
            route: None,
            services,
            running: RequestState::default(),
            upload: Upload::default(),
            upgrade: None,
            original_fields: None,
            attempts: Attempts::new(now),
            version_changes: 0,
            cause: None,
            failure: None,
            response: ResponseProgress::default(),
            trace: None,
            busy: Some(busy),
        }
    }

    /// Path and query for the backend, if they differ from the received ones.
    pub(super) fn outgoing(&self) -> Option<&str> {
        self.running.edits().and_then(|edits| edits.target.as_deref()).or(self.received.rewritten_target())
    }

    /// The name of the listener that accepted the connection.
    pub(super) fn listener(&self) -> &str {
        self.received.listener()
    }

    /// The request as keys and balancers see it: the path in the route's interpretation, with plugins'
    /// changes.
    pub(super) fn view<'a>(&'a self, head: &'a RequestHeader) -> RequestView<'a> {
        let route = self.route.as_ref().map_or("", |route| &*route.name);
        let request = self.received.request(RequestLine::of(head), route);
        let query = match self.outgoing() {
            None => request.query,
            outgoing => split_target(outgoing, &head.uri).1,
        };
        let edited = self.running.edits().and_then(Edits::matched_path);
        let path = edited.unwrap_or(request.path);
        let method = self.method().unwrap_or(request.method);
        RequestView { request: Request { method, path, query, ..request }, headers: &head.headers }
    }

    /// The request's key for the choice of an endpoint.
    pub(super) fn key<'a>(&'a self, cluster: &Cluster, head: &'a RequestHeader) -> Key<'a> {
        if cluster.reads_requests() { cluster.key(&self.view(head)) } else { Key::EMPTY }
    }

    /// The request as the plugins of its route see it.
    pub(super) fn exchange<'a>(
        &'a mut self,
        route: &'a Route,
        line: RequestLine<'a>,
        fields: &'a mut dyn Fields,
    ) -> Exchange<'a> {
        Exchange {
            request: self.received.request(line, &route.name),
            headers: Headers::request(fields),
            running: &mut self.running,
            services: &self.services,
        }
    }

    /// The method to the backend, when a plugin changed it.
    pub(super) fn method(&self) -> Option<&Method> {
        self.running.edits()?.method.as_ref()
    }

    /// Returns whether the process is shutting down.
    pub(super) fn is_draining(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.0.is_draining.load(Ordering::Relaxed))
    }

    /// Whether the process is shutting down, also after the end of the request.
    pub(super) fn shutdown_flag(&self) -> Arc<AtomicBool> {
        self.busy.as_ref().map_or_else(Arc::default, |busy| Arc::clone(&busy.0.is_draining))
    }

    /// Ends the request: releases its endpoint, and no longer counts it as active.
    pub(super) fn release(&mut self) {
        drop(self.attempts.take_lease());
        self.busy = None;
    }
}

/// The active requests of a worker, and whether the process is shutting down.
#[derive(Debug, Default)]
pub(super) struct ActiveRequests {
    count: AtomicUsize,
    new_connections: AtomicUsize,
    is_draining: Arc<AtomicBool>,
}

impl ActiveRequests {
    pub(super) fn new(is_draining: &Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self { is_draining: Arc::clone(is_draining), ..Self::default() })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn new_connections(&self) -> usize {
        self.new_connections.load(Ordering::Relaxed)
    }
}

/// Counts a connection that has not sent its first request, until dropped.
#[derive(Debug)]
pub struct NewConnection(Arc<ActiveRequests>);

impl NewConnection {
    pub(super) fn new(active: &Arc<ActiveRequests>) -> Self {
        active.new_connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(active))
    }
}

impl Drop for NewConnection {
    fn drop(&mut self) {
        self.0.new_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request as active until dropped.
pub(super) struct Busy(Arc<ActiveRequests>);

impl Busy {
    pub(super) fn new(active: &Arc<ActiveRequests>) -> Self {
        active.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(active))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}
