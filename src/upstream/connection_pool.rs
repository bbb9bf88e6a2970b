//! Pool of idle HTTP/1.1 connections: one for each worker thread and server, last in, first out.
//!
//! A worker has its own pool, so that no lock is taken and a connection stays on the thread that polls it. A
//! connection is checked when it is taken ([`Http1Connection::may_be_reused`]); one task of each worker removes
//! those that are too old, or that the server has closed. Background tasks of plugins have the pool of the control
//! thread. A runtime with several threads would have none, because its tasks change threads.

use super::endpoint::Endpoint;
use super::http1_connection::Http1Connection;
use super::proxy_header::ProxyAddrs;
use super::url_server::UrlServer;
use crate::runtime::clock;
use foldhash::fast::RandomState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The interval at which old and closed connections are removed.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// The idle connections of one worker.
#[derive(Default)]
struct Pool {
    servers: HashMap<ServerKey, IdleConnections, RandomState>,
    /// The number of connections of each group.
    counts: HashMap<GroupId, usize, RandomState>,
    has_sweeper: bool,
}

/// The server at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Server<'a> {
    /// An endpoint. A reload that changes how it is reached makes another one, with connections of its own.
    Endpoint(&'a Arc<Endpoint>),
    /// The server of a URL.
    Url(&'a Arc<UrlServer>),
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum ServerKey {
    /// The address of an endpoint, which the pool's weak reference keeps from another one.
    Endpoint(usize),
    Url(Arc<UrlServer>),
}

/// The servers that share a limit: the endpoints of an upstream, by the address of its name, which they share across
/// reloads too, or the servers of all URLs.
type GroupId = usize;

impl Server<'_> {
    fn key(self) -> ServerKey {
        match self {
            Self::Endpoint(endpoint) => ServerKey::Endpoint(Arc::as_ptr(endpoint).addr()),
            Self::Url(server) => ServerKey::Url(Arc::clone(server)),
        }
    }

    fn group(self) -> GroupId {
        match self {
            Self::Endpoint(endpoint) => endpoint.upstream_id(),
            // No address.
            Self::Url(_) => 0,
        }
    }
}

/// The idle connections to one server, the oldest first.
struct IdleConnections {
    /// The endpoint, if the server is one.
    endpoint: Option<Weak<Endpoint>>,
    group: GroupId,
    connections: Vec<IdleConnection>,
}

struct IdleConnection {
    connection: Box<Http1Connection>,
    /// When it is closed.
    deadline: Instant,
}

impl IdleConnections {
    fn new(server: Server<'_>) -> Self {
        let endpoint = match server {
            Server::Endpoint(endpoint) => Some(Arc::downgrade(endpoint)),
            Server::Url(_) => None,
        };
        Self { endpoint, group: server.group(), connections: Vec::new() }
    }

    /// Whether the connections lead to an endpoint that no upstream has any more.
    fn is_orphaned(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.strong_count() == 0)
    }
}

/// Takes the connection that was returned last, and is open, for requests with these addresses in the PROXY
/// header.
pub(super) fn take(server: Server<'_>, addrs: ProxyAddrs) -> Option<Box<Http1Connection>> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.servers.get_mut(&server.key())?;
        while let Some(at) = idle.connections.iter().rposition(|idle| idle.connection.addrs() == addrs) {
            let IdleConnection { mut connection, deadline } = idle.connections.remove(at);
            if let Some(count) = pool.counts.get_mut(&idle.group) {
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
/// connections of the group already, the one that was idle longest is closed.
pub(super) fn give_back(
    server: Server<'_>,
    mut connection: Box<Http1Connection>,
    keep: Duration,
    limit: usize,
) {
    if keep.is_zero() || limit == 0 || !connection.is_idle() {
        return;
    }
    connection.free_buffer();
    let group = server.group();
    POOL.with_borrow_mut(|pool| {
        if !pool.has_sweeper {
            if Handle::current().metrics().num_workers() != 1 {
                return;
            }
            // It ends with the last idle connection.
            tokio::spawn(sweep());
            pool.has_sweeper = true;
        }
        if pool.counts.get(&group).is_some_and(|count| *count >= limit) {
            pool.close_oldest_of(group);
        }
        let idle = pool.servers.entry(server.key()).or_insert_with(|| IdleConnections::new(server));
        let count = pool.counts.entry(group).or_default();
        idle.connections.push(IdleConnection { connection, deadline: clock::now() + keep });
        *count += 1;
    });
}

/// Closes the idle connections of this thread, which ends: the process may exit before the thread drops them.
pub fn close_idle_connections() {
    drop(POOL.take());
}

impl Pool {
    fn close_oldest_of(&mut self, group: GroupId) {
        let of_group = self.servers.values_mut().filter(|idle| idle.group == group);
        let with_oldest = of_group
            .filter(|idle| !idle.connections.is_empty())
            .min_by_key(|idle| idle.connections.first().map(|connection| connection.deadline));
        if let Some(idle) = with_oldest {
            idle.connections.remove(0);
            if let Some(count) = self.counts.get_mut(&group) {
                *count -= 1;
            }
        }
    }

    /// Removes what is too old or closed. Returns whether a connection is left.
    fn sweep(&mut self, now: Instant) -> bool {
        self.servers.retain(|_, idle| {
            if idle.is_orphaned() {
                return false;
            }
            idle.connections.retain_mut(|idle| idle.deadline > now && idle.connection.is_idle());
            !idle.connections.is_empty()
        });
        self.counts.clear();
        for idle in self.servers.values() {
            *self.counts.entry(idle.group).or_default() += idle.connections.len();
        }
        self.has_sweeper = !self.servers.is_empty();
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
