//! What is known of one request while it is under way. Guards in here undo themselves: whatever way
//! a request ends, dropping its context gives back what it held.

use super::failure::Failure;
use super::failure::tls_error::Cause;
use super::replacement_response::ReplacementResponse;
use super::request::request_facts::{Received, RequestLine, split_target};
use super::upload::Upload;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::{Cluster, Endpoint, Lease, RequestView, Tried};
use http::{HeaderMap, Method};
use moongate_sdk::{Edits, Exchange, Fields, Headers, Request, Running, Services};
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One request's context.
pub struct Context {
    /// When its head had been read.
    pub(super) started: Instant,
    /// The generation it is served by, whatever is swapped in meanwhile.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// What was decided about it when its head had been received.
    pub(super) received: Received,
    /// Its route.
    pub(super) route: Option<Arc<Route>>,
    /// What the gateway does for its plugins.
    pub(super) services: Arc<dyn Services>,
    /// What its plugins keep of it, and its id.
    pub(super) running: Running,
    /// Its body, where plugins see it.
    pub(super) upload: Upload,
    /// The pieces of the answer's body pass plugins.
    pub(super) shows_answer: bool,
    /// What the client gets in place of what is under way, which breaks off.
    pub(super) instead: Option<ReplacementResponse>,
    /// The client has its whole answer, and what still comes from the backend goes nowhere.
    pub(super) replaced: bool,
    /// The fields of a handshake as they came, where plugins are asked again while the WebSocket lives.
    pub(super) came: Option<Box<HeaderMap>>,
    /// Why it is refused, whatever else is found: its head is none, or has more than one reading, or so has the beginning
    /// of its body.
    pub(super) refused: Option<Failure>,
    /// Bytes of its head.
    pub(super) head_size: usize,
    /// The cluster it goes to.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// When the endpoint was asked.
    pub(super) asked: Instant,
    /// The endpoint it is at.
    pub(super) lease: Option<Lease>,
    /// The last endpoint it was at, for the log.
    pub(super) last_endpoint: Option<Arc<Endpoint>>,
    /// The endpoints it has been at.
    pub(super) tried: Tried,
    /// How many endpoints were asked.
    pub(super) attempts: u8,
    /// Why the last of them failed, or why there is no answer but ours.
    pub(super) failure: Option<Failure>,
    /// What is behind it, where TLS with a backend failed.
    pub(super) cause: Cause,
    /// The connection became a WebSocket; its lines and numbers are the tunnel's.
    pub(super) upgraded: bool,
    busy: Option<Busy>,
}

impl Context {
    pub(super) fn new(busy: Busy, services: Arc<dyn Services>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            asked: now,
            snapshot: None,
            received: Received::default(),
            route: None,
            services,
            running: Running::default(),
            upload: Upload::default(),
            shows_answer: false,
            instead: None,
            replaced: false,
            came: None,
            refused: None,
            head_size: 0,
            cluster: None,
            lease: None,
            last_endpoint: None,
            tried: Tried::default(),
            attempts: 0,
            failure: None,
            cause: None,
            upgraded: false,
            busy: Some(busy),
        }
    }

    /// Path and query to the backend, when they differ from what was sent.
    pub(super) fn outgoing(&self) -> Option<&str> {
        self.running.edits().and_then(|edits| edits.target.as_deref()).or(self.received.rewritten_target())
    }

    /// The name of the listener that accepted the connection.
    pub(super) fn listener(&self) -> &str {
        let listeners = self.snapshot.as_ref().map(|snapshot| &snapshot.listeners);
        let listener = listeners.and_then(|all| all.get(usize::from(self.received.listener)));
        listener.map_or("", |listener| &*listener.name)
    }

    /// What keys and balancers look at: the path as its route reads it, with what plugins changed.
    pub(super) fn view<'a>(&'a self, head: &'a RequestHeader) -> RequestView<'a> {
        let route = self.route.as_ref().map_or("", |route| &*route.name);
        let request = self.received.request(RequestLine::of(head), self.listener(), route);
        let query = match self.outgoing() {
            None => request.query,
            outgoing => split_target(outgoing, &head.uri).1,
        };
        let edited = self.running.edits().and_then(Edits::matched_path);
        let path = edited.unwrap_or(request.path);
        let method = self.method().unwrap_or(request.method);
        RequestView { request: Request { method, path, query, ..request }, headers: &head.headers }
    }

    /// The request as the plugins of its route see it.
    pub(super) fn exchange<'a>(
        &'a mut self,
        route: &'a Route,
        line: RequestLine<'a>,
        fields: &'a mut dyn Fields,
    ) -> Exchange<'a> {
        let listeners = self.snapshot.as_ref().map(|snapshot| &snapshot.listeners);
        let listener = listeners.and_then(|all| all.get(usize::from(self.received.listener)));
        let listener = listener.map_or("", |listener| &*listener.name);
        Exchange {
            request: self.received.request(line, listener, &route.name),
            headers: Headers::request(fields),
            running: &mut self.running,
            services: &self.services,
        }
    }

    /// The method to the backend, when a plugin changed it.
    pub(super) fn method(&self) -> Option<&Method> {
        self.running.edits()?.method.as_ref()
    }

    /// The request is over: gives back its endpoint, and counts as under way no longer.
    pub(super) fn release(&mut self) {
        self.lease = None;
        self.busy = None;
    }

    /// Whether another endpoint may be asked.
    pub(super) fn may_retry(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| self.attempts <= cluster.spec().retries)
    }
}

/// Counts a request as under way until it is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
