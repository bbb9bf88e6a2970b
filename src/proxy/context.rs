//! What is known of one request while it is under way. Guards in here undo themselves: whatever way
//! a request ends, dropping its context gives back what it held.

use super::answer::Instead;
use super::cause::Cause;
use super::failure::Failure;
use super::upload::Upload;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::{Cluster, Endpoint, Lease, Tried};
use http::{HeaderMap, Method, Uri};
use moongate_sdk::{Edits, Running, Services, Tls};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One request's context.
pub struct Context {
    /// When its head had been read.
    pub(super) started: Instant,
    /// The generation it is served by, whatever is swapped in meanwhile.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// The client: the peer, or what a trusted proxy says it is.
    pub(super) client: IpAddr,
    /// It is a CONNECT for a WebSocket over HTTP/2, in the shape of a GET: what follows its head are frames,
    /// and no body.
    pub(super) extended: bool,
    /// The TLS of its connection.
    pub(super) tls: Option<Arc<Tls>>,
    /// Whether the peer is a trusted proxy.
    pub(super) trusted: bool,
    /// Host as it is matched: lower case, without a port.
    pub(super) host: String,
    /// The path and query as they are forwarded, when they differ from what was sent.
    pub(super) rewritten: Option<String>,
    /// The path as its route matches it, when it differs from the one that is forwarded: without the parameters of
    /// its segments.
    pub(super) matched: Option<String>,
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
    pub(super) instead: Option<Instead>,
    /// The client has its whole answer, and what still comes from the backend goes nowhere.
    pub(super) replaced: bool,
    /// The fields of a handshake as they came, where plugins are asked again while the WebSocket lives.
    pub(super) came: Option<Box<HeaderMap>>,
    /// Its head or the beginning of its body has more than one reading.
    pub(super) doubtful: bool,
    /// It came by HTTP/2.
    pub(super) h2: bool,
    /// Bytes of its head.
    pub(super) head_size: usize,
    /// The index of the listener it came in by.
    pub(super) listener: u16,
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
    _busy: Busy,
}

impl Context {
    pub(super) fn new(busy: Busy, services: Arc<dyn Services>) -> Self {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let now = Instant::now();
        Self {
            started: now,
            asked: now,
            snapshot: None,
            peer: nobody,
            client: nobody,
            extended: false,
            tls: None,
            trusted: false,
            host: String::new(),
            rewritten: None,
            matched: None,
            route: None,
            services,
            running: Running::default(),
            upload: Upload::default(),
            shows_answer: false,
            instead: None,
            replaced: false,
            came: None,
            doubtful: false,
            h2: false,
            head_size: 0,
            listener: 0,
            cluster: None,
            lease: None,
            last_endpoint: None,
            tried: Tried::default(),
            attempts: 0,
            failure: None,
            cause: None,
            upgraded: false,
            _busy: busy,
        }
    }

    /// Path and query to the backend, when they differ from what was sent.
    pub(super) fn outgoing(&self) -> Option<&str> {
        self.running.edits().and_then(|edits| edits.target.as_deref()).or(self.rewritten.as_deref())
    }

    /// The path as its route reads it, and the query, with what plugins changed: what keys and conditions look at.
    pub(super) fn matched_target<'a>(&'a self, uri: &'a Uri) -> (&'a str, Option<&'a str>) {
        let (path, query) = target(self.outgoing(), uri);
        let edited = self.running.edits().and_then(Edits::matched_path);
        (edited.or(self.matched.as_deref()).unwrap_or(path), query)
    }

    /// The method to the backend, when a plugin changed it.
    pub(super) fn method(&self) -> Option<&Method> {
        self.running.edits()?.method.as_ref()
    }

    /// Whether another endpoint may be asked.
    pub(super) fn may_retry(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| self.attempts <= cluster.spec().retries)
    }
}

/// Path and query in their one spelling.
pub(super) fn target<'a>(rewritten: Option<&'a str>, uri: &'a Uri) -> (&'a str, Option<&'a str>) {
    match rewritten.map(|target| target.split_once('?').ok_or(target)) {
        Some(Ok((path, query))) => (path, Some(query)),
        Some(Err(path)) => (path, None),
        None => (uri.path(), uri.query()),
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
