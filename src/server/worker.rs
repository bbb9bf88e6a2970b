//! Worker: one thread, one single-threaded runtime, one Pingora proxy with its own pool.
//!
//! On the request path, workers share only the snapshot and the counters: none waits for another, and no task
//! moves between cores.

use super::bind::BoundListener;
use super::connection_context::ConnectionContext;
use super::open_listener::OpenListener;
use super::{connection_setup, http1};
use crate::net::conn_info::ConnInfo;
use crate::net::connection_permit::{ConnectionCount, WorkerConnections};
use crate::net::downstream_io::Socket;
use crate::proxy::{Connection, Gateway, MovedTunnel, RequestService};
use crate::runtime::clock;
use crate::runtime::supervision;
use bytes::BytesMut;
use log::{error, warn};
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle as JoinTask;

/// The delay after the kernel ran out of descriptors: without it the loop would spin, since the connection
/// stays in the queue.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The minimum interval of log lines of one accept loop.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The delay before a listener that could not be registered is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// The interval at which a retired worker looks for its last connection.
const LAST_CONNECTION: Duration = Duration::from_millis(200);

/// What a worker should do.
#[derive(Clone, Debug)]
pub(super) struct WorkerOrder {
    /// Its stage.
    pub(super) stage: WorkerStage,
    /// The sockets that it accepts connections on.
    pub(super) listeners: Arc<[Arc<OpenListener>]>,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerStage {
    /// Accepting.
    Serving,
    /// Not accepting while another process does, and serving again if that one ends.
    Paused,
    /// Not accepting; active connections continue until the process ends.
    Draining,
    /// As draining; another process accepts what waits in the accept queues.
    HandedOver,
    /// Not accepting; the worker ends after its last connection.
    Retired,
    /// Ending now.
    Ended,
}

/// A WebSocket of another process for a worker.
pub(super) struct Adoption {
    pub(super) websocket: MovedTunnel,
    pub(super) sockets: [OwnedFd; 2],
    /// Gets the ID, and why it cannot continue.
    pub(super) reply: Sender<(u64, Result<(), String>)>,
}

/// Starts a worker's thread, which notifies `started` when it accepts connections.
///
/// # Errors
/// The kernel's error when no thread can be started.
pub(super) fn spawn(
    number: usize,
    gateway: Gateway,
    conf: Arc<ServerConf>,
    orders: watch::Receiver<WorkerOrder>,
    adoptions: UnboundedReceiver<Adoption>,
    started: SyncSender<io::Result<()>>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        // 0 stands for every thread that serves no requests.
        moongate_sdk::set_worker(number + 1);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = match builder.enable_all().on_thread_unpark(clock::turn_begins).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // The startup fails; its receiver may be gone.
                let _ = started.send(Err(error));
                return;
            }
        };
        runtime.block_on(run(gateway, conf, orders, adoptions, started));
        // Remaining tasks had their time; they must not hold the process.
        runtime.shutdown_background();
    })
}

async fn run(
    gateway: Gateway,
    conf: Arc<ServerConf>,
    mut orders: watch::Receiver<WorkerOrder>,
    mut adoptions: UnboundedReceiver<Adoption>,
    started: SyncSender<io::Result<()>>,
) {
    let mut proxy = HttpProxy::new(gateway.clone(), conf);
    proxy.handle_init_modules();
    // A WebSocket over HTTP/2 begins with CONNECT (RFC 8441 §4); the proxy rejects every other CONNECT.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    let proxy = Arc::new(proxy);
    let (ending, shutdown) = watch::channel(false);
    // Shared within the worker: no connection touches counters of other workers.
    let service =
        Arc::new(RequestService { gateway: Arc::new(gateway), proxy: Arc::clone(&proxy), shutdown });
    let connections = WorkerConnections::default();
    // A shutdown waits for what is in the accept queues, as for a new connection.
    let is_accepting = service.gateway.new_connection();
    let mut accepting = AcceptLoops::default();
    let _ = started.send(Ok(()));
    let stage = loop {
        let WorkerOrder { stage, listeners } = orders.borrow_and_update().clone();
        match stage {
            WorkerStage::Serving => accepting.follow(&listeners, &service, &connections),
            WorkerStage::Paused => std::mem::take(&mut accepting).end(AcceptOrder::Stop).await,
            _ => break stage,
        }
        loop {
            tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => break,
                    // The sender is owned by the pool of workers: the process ends.
                    Err(_) => return,
                },
                Some(adoption) = adoptions.recv() => {
                    adopt(adoption, &service.gateway, &listeners, &connections);
                }
            }
        }
    };
    // Those that wait are not taken any more.
    adoptions.close();
    while let Ok(Adoption { websocket, reply, .. }) = adoptions.try_recv() {
        let _ = reply.send((websocket.id, Err("the process is shutting down".to_owned())));
    }
    if stage == WorkerStage::Ended {
        return service.close_idle_connections().await;
    }
    // What waits in the accept queues is served here, or by another process. Nothing is accepted later.
    let last = if stage == WorkerStage::HandedOver { AcceptOrder::Stop } else { AcceptOrder::End };
    accepting.end(last).await;
    drop(is_accepting);
    let _ = ending.send(true);
    // Wakes idle keep-alive connections, which will get no further request.
    proxy.http_cleanup().await;
    let mut orders = orders;
    tokio::select! {
        _ = orders.wait_for(|order| order.stage == WorkerStage::Ended) => {}
        () = last_connection(&connections), if stage == WorkerStage::Retired => {}
    }
    service.close_idle_connections().await;
}

/// Continues a WebSocket of another process.
fn adopt(
    Adoption { websocket, sockets, reply }: Adoption,
    gateway: &Gateway,
    listeners: &[Arc<OpenListener>],
    connections: &WorkerConnections,
) {
    let id = websocket.id;
    // A listener that this process does not have limits nothing.
    let open = listeners.iter().find(|open| *open.name == *websocket.listener);
    let count = open.map_or_else(|| ConnectionCount::new(None), |open| Arc::clone(&open.count));
    // The receiver waits within a time limit.
    let _ = reply.send((id, websocket.adopt(gateway, sockets, count.readmit(connections))));
}

/// Waits for the end of every connection of the worker, tunnels included.
async fn last_connection(connections: &WorkerConnections) {
    while Arc::strong_count(connections) > 1 {
        tokio::time::sleep(LAST_CONNECTION).await;
    }
}

/// The accept loops of a worker.
#[derive(Default)]
struct AcceptLoops(Vec<AcceptLoop>);

struct AcceptLoop {
    listener: Arc<OpenListener>,
    order: watch::Sender<AcceptOrder>,
    task: JoinTask<()>,
}

/// What an accept loop should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptOrder {
    /// Accept connections within the limit, which may have changed.
    Accept,
    /// End once the accept queue is empty.
    End,
    /// End at once.
    Stop,
}

impl AcceptLoops {
    /// Starts and stops loops, so that there is one for each of these listeners.
    fn follow(
        &mut self,
        listeners: &[Arc<OpenListener>],
        service: &Arc<RequestService>,
        connections: &WorkerConnections,
    ) {
        self.0.retain(|running| {
            let stays = listeners.iter().any(|listener| Arc::ptr_eq(listener, &running.listener));
            running.order.send_replace(if stays { AcceptOrder::Accept } else { AcceptOrder::End });
            stays
        });
        for listener in listeners {
            if self.0.iter().any(|running| Arc::ptr_eq(&running.listener, listener)) {
                continue;
            }
            let (order, orders) = watch::channel(AcceptOrder::Accept);
            let (accepted, service) = (Arc::clone(listener), Arc::clone(service));
            let connections = Arc::clone(connections);
            let work = move || {
                accept(Arc::clone(&accepted), Arc::clone(&service), Arc::clone(&connections), orders.clone())
            };
            let task = supervision::spawn("accept", listener.name.to_string(), work);
            self.0.push(AcceptLoop { listener: Arc::clone(listener), order, task });
        }
    }

    /// Ends all with this order, and waits until they have ended.
    async fn end(self, last: AcceptOrder) {
        for running in &self.0 {
            running.order.send_replace(last);
        }
        for running in self.0 {
            let _ = running.task.await;
        }
    }
}

async fn accept(
    open: Arc<OpenListener>,
    service: Arc<RequestService>,
    connections: WorkerConnections,
    mut orders: watch::Receiver<AcceptOrder>,
) {
    // The worker's own: connections count references to it, and no worker shares a cache line for that.
    let name: Arc<str> = Arc::from(&*open.name);
    let listener = loop {
        match open.socket.share().and_then(Listener::new) {
            Ok(listener) => break listener,
            // Descriptors may be exhausted for a while: the listener must not be lost for good.
            Err(error) => error!(error:%; "listener not registered; retrying"),
        }
        tokio::select! {
            _ = orders.wait_for(|order| *order != AcceptOrder::Accept) => return,
            () = tokio::time::sleep(WATCH_AGAIN) => {}
        }
    };
    let mut complained = None;
    // Connections to a removed listener are served as it served them.
    let (_, first) = service.gateway.connection_settings(&name, &open.address);
    let mut protocols = first.flatten();
    loop {
        if *orders.borrow() == AcceptOrder::Stop {
            return;
        }
        let permit = match open.count.try_acquire(&connections) {
            Some(permit) => permit,
            None => {
                tell_full(&name);
                tokio::select! {
                    permit = open.count.acquire(&connections) => permit,
                    // What waits in the queue exceeds the limit.
                    _ = orders.wait_for(|order| *order != AcceptOrder::Accept) => return,
                }
            }
        };
        let accepted = tokio::select! {
            // Connections in the queue of a removed listener are served too.
            biased;
            accepted = listener.accept() => accepted,
            changed = orders.changed() => match changed {
                // The permit is returned: the limit may be lower by now.
                Ok(()) if *orders.borrow_and_update() == AcceptOrder::Accept => continue,
                _ => return,
            }
        };
        match accepted {
            Ok((socket, peer)) => {
                let (limits, current) = service.gateway.connection_settings(&name, &open.address);
                if let Some(current) = current {
                    protocols = current;
                }
                let conn_info = ConnInfo::plain(peer, Arc::clone(&name));
                let new = service.gateway.new_connection();
                match &protocols {
                    None => {
                        let first = limits.time;
                        let connection =
                            Connection::new(socket, BytesMut::new(), conn_info, limits, Some(permit));
                        tokio::spawn(http1::serve(Box::new(connection), Arc::clone(&service), (first, new)));
                    }
                    Some(protocols) => {
                        let context = ConnectionContext { service: Arc::clone(&service), limits };
                        tokio::spawn(connection_setup::serve_connection(
                            socket,
                            conn_info,
                            Arc::clone(protocols),
                            context,
                            (permit, new),
                        ));
                    }
                }
            }
            Err(error) => {
                if complained.is_none_or(|last: Instant| last.elapsed() >= LOG_INTERVAL) {
                    complained = Some(Instant::now());
                    warn!(error:%; "connection not accepted");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
                // Errors may last, and the queue then never becomes empty.
                if *orders.borrow() != AcceptOrder::Accept {
                    return;
                }
            }
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(bound: BoundListener) -> io::Result<Self> {
        match bound {
            BoundListener::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            BoundListener::Unix(listener, _) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Option<std::net::SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// Says that a listener is full, which clients see as a connect without a response.
fn tell_full(name: &str) {
    const MESSAGE: &str =
        "listener has `max_connections` connections; new connections wait in the accept queue";
    if moongate_sdk::log_throttle::admit(log::Level::Warn, MESSAGE, &[name]) {
        log::warn!(listener = name; "{MESSAGE}");
    }
}
