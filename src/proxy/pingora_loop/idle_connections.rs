//! End of a worker's idle connections to HTTP/2 backends. A runtime that is dropped ends them without GOAWAY and without the
//! closing alert of TLS (RFC 8446 §6.1), and Pingora's pool gives no access to them. So a request takes each one out, is
//! never sent, and releases it without an idle time.

use super::lent_session;
use crate::proxy::Gateway;
use crate::runtime::clock;
use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::server::ShutdownWatch;
use pingora::upstreams::peer::{HttpPeer, Peer, Tracer, Tracing};
use pingora::{Error, ErrorType};
use pingora_proxy::HttpProxy;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The number of peers from which on old ones are forgotten.
const MANY: usize = 256;

/// The time limit for the ends of all connections: backends that do not read are not awaited.
const LONGEST_END: Duration = Duration::from_secs(1);

/// The interval at which the open connections are counted.
const TICK: Duration = Duration::from_millis(1);

thread_local! {
    static PEERS: RefCell<Peers> = RefCell::default();
    /// The open connections of the worker.
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

/// The peers that the worker may have connections to, by the hash under which Pingora pools them.
#[derive(Default)]
struct Peers {
    all: HashMap<u64, KnownPeer>,
    /// The number of peers at which old ones are forgotten.
    limit: usize,
}

struct KnownPeer {
    peer: HttpPeer,
    last_used: Instant,
    idle_time: Duration,
}

/// Remembers a peer that a request is sent to, and counts its connections.
pub(super) fn track(peer: &mut HttpPeer) {
    peer.options.tracer = Some(Tracer(Box::new(OpenConnection)));
    let (hash, now) = (peer.reuse_hash(), clock::now());
    PEERS.with_borrow_mut(|peers| {
        if let Some(known) = peers.all.get_mut(&hash) {
            known.last_used = now;
            return;
        }
        if peers.all.len() >= peers.limit.max(MANY) {
            peers.all.retain(|_, known| now.saturating_duration_since(known.last_used) < known.idle_time);
            peers.limit = 2 * peers.all.len();
        }
        let idle_time = peer.options.idle_timeout.unwrap_or(Duration::MAX);
        peers.all.insert(hash, KnownPeer { peer: peer.clone(), last_used: now, idle_time });
    });
}

/// Ends the idle connections of this worker, which ends.
pub(in crate::proxy) async fn close(proxy: &Arc<HttpProxy<Gateway>>, shutdown: &ShutdownWatch) {
    let peers = PEERS.take().all;
    for KnownPeer { mut peer, .. } in peers.into_values() {
        peer.options.idle_timeout = Some(Duration::ZERO);
        peer.options.custom_l4 = Some(Arc::new(NoConnection));
        for _ in 0..OPEN.get() {
            let (request, is_taken) = lent_session::closing(peer.clone());
            proxy.process_new_http(request, shutdown).await;
            if !is_taken.get() {
                break;
            }
        }
    }
    let deadline = clock::now() + LONGEST_END;
    while OPEN.get() > 0 && clock::now() < deadline {
        // The tasks of the connections run meanwhile.
        tokio::time::sleep(TICK).await;
    }
}

/// Counts an open connection.
#[derive(Debug)]
struct OpenConnection;

impl Tracing for OpenConnection {
    fn on_connected(&self) {
        OPEN.set(OPEN.get() + 1);
    }

    fn on_disconnected(&self) {
        // At the end of the thread the counter may be gone.
        let _ = OPEN.try_with(|open| open.set(open.get().saturating_sub(1)));
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self)
    }
}

/// Connects to nothing: only a pooled connection is wanted.
#[derive(Debug)]
struct NoConnection;

#[async_trait]
impl L4Connect for NoConnection {
    async fn connect(&self, _to: &SocketAddr) -> pingora::Result<Stream> {
        Error::e_explain(ErrorType::ConnectError, "no further pooled connection")
    }
}
