//! Pool of idle HTTP/1.1 connections: one for each worker thread and endpoint, last in, first out.
//!
//! A worker has its own pool, so that no lock is taken and a connection stays on the thread that polls it. A
//! connection is checked when it is taken ([`Http1Connection::may_be_reused`]); one task of each worker removes
//! those that are too old, or that the backend has closed.

use super::endpoint::Endpoint;
use super::http1_connection::Http1Connection;
use super::proxy_header::ProxyAddrs;
use crate::runtime::clock;
use foldhash::fast::RandomState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// The interval at which old and closed connections are removed.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// The idle connections of one worker.
#[derive(Default)]
struct Pool {
    endpoints: HashMap<EndpointId, IdleConnections, RandomState>,
    /// The number of connections of each upstream.
    counts: HashMap<UpstreamId, usize, RandomState>,
    has_sweeper: bool,
}

/// The address of an upstream's name, which all its endpoints share, across reloads too.
type UpstreamId = usize;

/// The address of an endpoint, which the pool's weak reference keeps from another one. A reload that changes how an
/// endpoint is reached makes another endpoint, with connections of its own.
type EndpointId = usize;

fn endpoint_id(endpoint: &Arc<Endpoint>) -> EndpointId {
    Arc::as_ptr(endpoint).addr()
}

/// The idle connections to one endpoint, the oldest first.
struct IdleConnections {
    endpoint: Weak<Endpoint>,
    upstream: UpstreamId,
    connections: Vec<IdleConnection>,
}

struct IdleConnection {
    connection: Box<Http1Connection>,
    /// When it is closed.
    deadline: Instant,
}

/// Takes the connection that was returned last, and is open, for requests with these addresses in the PROXY
/// header.
pub(super) fn take(endpoint: &Arc<Endpoint>, addrs: ProxyAddrs) -> Option<Box<Http1Connection>> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.endpoints.get_mut(&endpoint_id(endpoint))?;
        while let Some(at) = idle.connections.iter().rposition(|idle| idle.connection.addrs() == addrs) {
            let IdleConnection { mut connection, deadline } = idle.connections.remove(at);
            if let Some(count) = pool.counts.get_mut(&idle.upstream) {
                *count -= 1;
            }
            if deadline > clock::now() && connection.may_be_reused() {
                connection.mark_reused();
                return Some(connection);
            }
        }
        None
    })
}

/// Gives back a connection whose exchange is complete, to be kept for `keep`. If the worker has `limit`
/// connections of the upstream already, the one that was idle longest is closed.
pub fn give_back(
    endpoint: &Arc<Endpoint>,
    mut connection: Box<Http1Connection>,
    keep: Duration,
    limit: usize,
) {
    if keep.is_zero() || limit == 0 || !connection.is_idle() {
        return;
    }
    connection.free_buffer();
    let upstream = endpoint.upstream_id();
    POOL.with_borrow_mut(|pool| {
        if pool.counts.get(&upstream).is_some_and(|count| *count >= limit) {
            pool.close_oldest_of(upstream);
        }
        let fresh =
            || IdleConnections { endpoint: Arc::downgrade(endpoint), upstream, connections: Vec::new() };
        let idle = pool.endpoints.entry(endpoint_id(endpoint)).or_insert_with(fresh);
        let count = pool.counts.entry(upstream).or_default();
        idle.connections.push(IdleConnection { connection, deadline: clock::now() + keep });
        *count += 1;
        if !std::mem::replace(&mut pool.has_sweeper, true) {
            // It ends with the last idle connection.
            tokio::spawn(sweep());
        }
    });
}

impl Pool {
    fn close_oldest_of(&mut self, upstream: UpstreamId) {
        let of_upstream = self.endpoints.values_mut().filter(|idle| idle.upstream == upstream);
        let with_oldest = of_upstream
            .filter(|idle| !idle.connections.is_empty())
            .min_by_key(|idle| idle.connections.first().map(|connection| connection.deadline));
        if let Some(idle) = with_oldest {
            idle.connections.remove(0);
            if let Some(count) = self.counts.get_mut(&upstream) {
                *count -= 1;
            }
        }
    }

    /// Removes what is too old or closed. Returns whether a connection is left.
    fn sweep(&mut self, now: Instant) -> bool {
        self.endpoints.retain(|_, idle| {
            if idle.endpoint.strong_count() == 0 {
                return false;
            }
            idle.connections.retain_mut(|idle| idle.deadline > now && idle.connection.is_idle());
            !idle.connections.is_empty()
        });
        self.counts.clear();
        for idle in self.endpoints.values() {
            *self.counts.entry(idle.upstream).or_default() += idle.connections.len();
        }
        self.has_sweeper = !self.endpoints.is_empty();
        self.has_sweeper
    }
}

async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !POOL.with_borrow_mut(|pool| pool.sweep(clock::now())) {
            return;
        }
    }
}
