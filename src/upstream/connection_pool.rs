//! Pool of idle HTTP/1.1 connections: one for each worker thread, by server, last in, first out.
//!
//! A worker has its own pool, so that no lock is taken and a connection stays on the thread that polls it. A
//! connection is checked when it is taken ([`Http1Connection::may_be_reused`]); one task of each worker removes
//! those that are too old, or that the server has closed. Background tasks of plugins have the pool of the control
//! thread. A runtime with several threads would have none, because its tasks change threads.
//!
//! Each server has a bound, and so have all endpoints together, and all servers of URLs. At a bound, the connection that was
//! idle longest is closed, which takes the same time for any number of servers.

use super::endpoint::Endpoint;
use super::http1_connection::Http1Connection;
use super::proxy_header::ProxyAddrs;
use super::url_server::UrlServer;
use crate::runtime::clock;
use foldhash::fast::RandomState;
use rustix::process::{Resource, getrlimit};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The interval at which old and closed connections are removed.
const SWEEP: Duration = Duration::from_secs(1);
/// The connections that are looked at without a pause. More are divided into parts, spread over the interval.
const SWEPT_AT_ONCE: usize = if cfg!(test) { 20 } else { 1000 };
const PARTS: usize = 10;

/// Idle connections to endpoints take at most one in this many of the process's descriptors.
const DESCRIPTORS_FOR_EACH: u64 = 4;

/// No connection.
const NONE: u32 = u32::MAX;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// The most idle connections to endpoints that the process keeps, over all threads: a quarter of its descriptors, whose limit
/// (`RLIMIT_NOFILE`) is read once.
pub fn most_idle_connections() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(descriptors / DESCRIPTORS_FOR_EACH).unwrap_or(usize::MAX)
    })
}

/// The most idle connections of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleLimits {
    /// To the server of the connection.
    pub(super) of_server: usize,
    /// To all servers of its group.
    pub(super) of_group: usize,
}

impl IdleLimits {
    /// Those of an endpoint, of which all workers together keep `of_endpoint` connections.
    pub(super) fn of_endpoint(of_endpoint: usize, workers: usize) -> Self {
        let of_worker = |all: usize| all.div_ceil(workers.max(1));
        Self { of_server: of_worker(of_endpoint), of_group: of_worker(most_idle_connections()) }
    }
}

/// The idle connections of one worker.
#[derive(Default)]
struct Pool {
    servers: HashMap<ServerKey, IdleServer, RandomState>,
    /// The connections, and places for others.
    places: Vec<Place>,
    free: Vec<u32>,
    endpoints: Group,
    urls: Group,
    has_sweeper: bool,
    /// The place at which the next part of a sweep begins.
    swept: usize,
}

/// The server at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Server<'a> {
    /// An endpoint. A reload that changes how it is reached makes another one, with connections of its own.
    Endpoint(&'a Arc<Endpoint>),
    /// The server of a URL.
    Url(&'a Arc<UrlServer>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ServerKey {
    /// The address of an endpoint, which the pool's weak reference keeps from another one.
    Endpoint(usize),
    Url(Arc<UrlServer>),
}

impl Server<'_> {
    fn key(self) -> ServerKey {
        match self {
            Self::Endpoint(endpoint) => ServerKey::Endpoint(Arc::as_ptr(endpoint).addr()),
            Self::Url(server) => ServerKey::Url(Arc::clone(server)),
        }
    }
}

/// A server with its idle connections.
struct IdleServer {
    /// The endpoint, if the server is one.
    endpoint: Option<Weak<Endpoint>>,
    /// The places of its connections, the one that was idle longest first.
    connections: VecDeque<u32>,
}

impl IdleServer {
    fn new(server: Server<'_>) -> Self {
        let endpoint = match server {
            Server::Endpoint(endpoint) => Some(Arc::downgrade(endpoint)),
            Server::Url(_) => None,
        };
        Self { endpoint, connections: VecDeque::new() }
    }

    /// Whether the connections lead to an endpoint that no upstream has any more.
    fn is_orphaned(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.strong_count() == 0)
    }
}

/// The connections of several servers, in the order in which they became idle.
struct Group {
    first: u32,
    last: u32,
    count: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self { first: NONE, last: NONE, count: 0 }
    }
}

/// A place for a connection, with its neighbours in the group.
struct Place {
    idle: Option<IdleConnection>,
    before: u32,
    after: u32,
}

struct IdleConnection {
    server: ServerKey,
    connection: Box<Http1Connection>,
    /// When it is closed.
    deadline: Instant,
}

/// Takes the connection that was returned last, and is open, for requests with these addresses in the PROXY
/// header.
pub(super) fn take(server: Server<'_>, addrs: ProxyAddrs) -> Option<Box<Http1Connection>> {
    POOL.with_borrow_mut(|pool| pool.take(&server.key(), addrs))
}

/// Gives back a connection whose exchange is complete, to be kept for `keep`. At a limit of the worker, the connection that
/// was idle longest is closed.
pub(super) fn give_back(
    server: Server<'_>,
    mut connection: Box<Http1Connection>,
    keep: Duration,
    limits: IdleLimits,
) {
    if keep.is_zero() || limits.of_server == 0 || limits.of_group == 0 || !connection.is_idle() {
        return;
    }
    connection.free_buffer();
    POOL.with_borrow_mut(|pool| {
        if !pool.has_sweeper {
            if Handle::current().metrics().num_workers() != 1 {
                return;
            }
            // It ends with the last idle connection.
            tokio::spawn(sweep());
            pool.has_sweeper = true;
        }
        pool.add(server, connection, clock::now() + keep, limits);
    });
}

/// Closes the idle connections of this thread, which ends: the process may exit before the thread drops them.
pub fn close_idle_connections() {
    drop(POOL.take());
}

impl Pool {
    fn take(&mut self, key: &ServerKey, addrs: ProxyAddrs) -> Option<Box<Http1Connection>> {
        loop {
            let server = self.servers.get_mut(key)?;
            let is_alike = |place: &u32| {
                let idle = self.places.get(*place as usize).and_then(|place| place.idle.as_ref());
                idle.is_some_and(|idle| idle.connection.addrs() == addrs)
            };
            let at = server.connections.iter().rposition(is_alike)?;
            let place = server.connections.remove(at)?;
            let IdleConnection { mut connection, deadline, .. } = self.remove(place)?;
            if deadline > clock::now() && connection.may_be_reused() {
                connection.mark_reused();
                return Some(connection);
            }
        }
    }

    fn add(
        &mut self,
        server: Server<'_>,
        connection: Box<Http1Connection>,
        deadline: Instant,
        limits: IdleLimits,
    ) {
        let key = server.key();
        let of_server = |pool: &Self| pool.servers.get(&key).map_or(0, |server| server.connections.len());
        while of_server(self) >= limits.of_server {
            self.close_oldest(&key);
        }
        while self.group(&key).count >= limits.of_group {
            let first = self.group(&key).first;
            let Some(oldest) = self.places.get(first as usize).and_then(|place| place.idle.as_ref()) else {
                break;
            };
            let of_oldest = oldest.server.clone();
            self.close_oldest(&of_oldest);
        }
        let place = self.insert(IdleConnection { server: key.clone(), connection, deadline });
        self.servers.entry(key).or_insert_with(|| IdleServer::new(server)).connections.push_back(place);
    }

    fn close_oldest(&mut self, key: &ServerKey) {
        let oldest = self.servers.get_mut(key).and_then(|server| server.connections.pop_front());
        oldest.and_then(|oldest| self.remove(oldest));
    }

    fn group(&mut self, key: &ServerKey) -> &mut Group {
        match key {
            ServerKey::Endpoint(_) => &mut self.endpoints,
            ServerKey::Url(_) => &mut self.urls,
        }
    }

    /// Takes a place at the end of the group.
    fn insert(&mut self, idle: IdleConnection) -> u32 {
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        let group = self.group(&idle.server);
        let before = std::mem::replace(&mut group.last, place);
        group.count += 1;
        match before {
            NONE => group.first = place,
            before => self.places[before as usize].after = place,
        }
        let taken = Place { idle: Some(idle), before, after: NONE };
        match self.places.get_mut(place as usize) {
            Some(free) => *free = taken,
            None => self.places.push(taken),
        }
        place
    }

    /// Frees a place, which its server does not have any more.
    fn remove(&mut self, place: u32) -> Option<IdleConnection> {
        let Place { idle, before, after } = self.places.get_mut(place as usize)?;
        let (idle, before, after) = (idle.take()?, *before, *after);
        let group = self.group(&idle.server);
        group.count -= 1;
        if before == NONE {
            group.first = after;
        }
        if after == NONE {
            group.last = before;
        }
        if let Some(before) = self.places.get_mut(before as usize) {
            before.after = after;
        }
        if let Some(after) = self.places.get_mut(after as usize) {
            after.before = before;
        }
        self.free.push(place);
        Some(idle)
    }

    /// Removes what is too old or closed in the next part of the pool. Returns the pause before the following part; `None`
    /// if no connection is left.
    fn sweep(&mut self, now: Instant) -> Option<Duration> {
        let parts = if self.places.len() <= SWEPT_AT_ONCE { 1 } else { PARTS };
        let end = (self.swept + self.places.len().div_ceil(parts)).min(self.places.len());
        for place in self.swept..end {
            self.sweep_place(place, now);
        }
        self.swept = end;
        if end == self.places.len() {
            self.swept = 0;
            self.servers.retain(|_, server| !server.connections.is_empty());
        }
        if self.endpoints.count + self.urls.count > 0 {
            return Some(SWEEP / u32::try_from(parts).unwrap_or(1));
        }
        *self = Self::default();
        None
    }

    fn sweep_place(&mut self, place: usize, now: Instant) {
        let Some(idle) = self.places.get_mut(place).and_then(|place| place.idle.as_mut()) else { return };
        let Some(server) = self.servers.get_mut(&idle.server) else { return };
        if !server.is_orphaned() && idle.deadline > now && idle.connection.is_idle() {
            return;
        }
        server.connections.retain(|other| *other as usize != place);
        self.remove(place as u32);
    }
}

async fn sweep() {
    let mut pause = SWEEP;
    loop {
        tokio::time::sleep(pause).await;
        match POOL.with_borrow_mut(|pool| pool.sweep(clock::now())) {
            Some(next) => pause = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::upstream::announced::Identity;
    use crate::upstream::dial::PlainStream;
    use crate::upstream::upstream_stream::UpstreamStream;
    use crate::upstream::{Address, Health};
    use tokio::net::{TcpListener, TcpStream};

    const MINUTE: Duration = Duration::from_secs(60);

    fn endpoint(port: u16) -> Arc<Endpoint> {
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        Endpoint::new(&"web".into(), Identity::at(address), None, Health::Healthy)
    }

    /// Connections with the backend's ends of them.
    struct Backend {
        listener: TcpListener,
        ends: Vec<TcpStream>,
    }

    impl Backend {
        async fn start() -> Self {
            Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), ends: Vec::new() }
        }

        async fn connection(&mut self) -> Box<Http1Connection> {
            let ours = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            self.ends.push(self.listener.accept().await.unwrap().0);
            Box::new(Http1Connection::new(UpstreamStream::Plain(PlainStream::Tcp(ours)), None))
        }

        /// Adds a connection to the pool.
        async fn give(&mut self, pool: &mut Pool, endpoint: &Arc<Endpoint>, limits: IdleLimits) {
            let connection = self.connection().await;
            pool.add(Server::Endpoint(endpoint), connection, clock::now() + MINUTE, limits);
        }
    }

    /// Takes all connections to an endpoint; returns how many there were.
    fn taken(pool: &mut Pool, endpoint: &Arc<Endpoint>) -> usize {
        std::iter::from_fn(|| pool.take(&Server::Endpoint(endpoint).key(), None)).count()
    }

    #[tokio::test]
    async fn each_endpoint_has_a_bound_of_its_own() {
        let (mut backend, mut pool) = (Backend::start().await, Pool::default());
        let endpoints: Vec<_> = (1..=5).map(endpoint).collect();
        let limits = IdleLimits { of_server: 2, of_group: 100 };
        for _ in 0..3 {
            for endpoint in &endpoints {
                backend.give(&mut pool, endpoint, limits).await;
            }
        }
        assert_eq!(pool.endpoints.count, 10);
        assert!(endpoints.iter().all(|endpoint| taken(&mut pool, endpoint) == 2));
        assert_eq!((pool.endpoints.count, pool.free.len()), (0, pool.places.len()));
    }

    #[tokio::test]
    async fn above_the_bound_of_all_the_connection_that_was_idle_longest_is_closed() {
        let (mut backend, mut pool) = (Backend::start().await, Pool::default());
        let endpoints: Vec<_> = (1..=4).map(endpoint).collect();
        let limits = IdleLimits { of_server: 9, of_group: 3 };
        for endpoint in &endpoints {
            backend.give(&mut pool, endpoint, limits).await;
        }
        let counts =
            |pool: &mut Pool| endpoints.iter().map(|endpoint| taken(pool, endpoint)).collect::<Vec<_>>();
        assert_eq!(pool.endpoints.count, 3);
        // Used again, the second one is idle for the shortest time.
        let again = pool.take(&Server::Endpoint(&endpoints[1]).key(), None).unwrap();
        pool.add(Server::Endpoint(&endpoints[1]), again, clock::now() + MINUTE, limits);
        backend.give(&mut pool, &endpoints[0], limits).await;
        assert_eq!(counts(&mut pool), [1, 1, 0, 1]);
    }

    #[tokio::test]
    async fn a_sweep_in_parts_removes_what_is_old_closed_or_orphaned() {
        let (mut backend, mut pool) = (Backend::start().await, Pool::default());
        let (kept, orphan) = (endpoint(1), endpoint(2));
        let limits = IdleLimits { of_server: 2000, of_group: 2000 };
        for _ in 0..SWEPT_AT_ONCE {
            backend.give(&mut pool, &kept, limits).await;
        }
        backend.give(&mut pool, &orphan, limits).await;
        drop(orphan);
        let old = backend.connection().await;
        let now = clock::now();
        pool.add(Server::Endpoint(&kept), old, now, limits);
        for _ in 0..PARTS {
            assert_eq!(pool.sweep(now), Some(SWEEP / PARTS as u32));
        }
        assert_eq!((pool.endpoints.count, pool.servers.len()), (SWEPT_AT_ONCE, 1));
        assert_eq!(pool.sweep(now + MINUTE), Some(SWEEP / PARTS as u32));
        for _ in 1..PARTS - 1 {
            pool.sweep(now + MINUTE);
        }
        assert_eq!(pool.sweep(now + MINUTE), None);
        assert!(pool.servers.is_empty());
    }

    #[test]
    fn the_bound_of_all_follows_from_the_descriptors() {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(most_idle_connections() as u64, descriptors / 4);
        let limits = IdleLimits::of_endpoint(5, 2);
        assert_eq!((limits.of_server, limits.of_group), (3, most_idle_connections().div_ceil(2)));
    }
}
