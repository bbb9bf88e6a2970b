//! Worker: one thread, one single-threaded runtime, one Pingora proxy with its own pool.
//!
//! On the request path, workers share only the snapshot and the counters: none waits for another, and no task
//! moves between cores.

use super::bind::BoundListener;
use super::connection_context::ConnectionContext;
use super::{connection_setup, http1};
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::{Connection, Gateway, RequestService};
use crate::runtime::clock;
use crate::runtime::supervision;
use bytes::BytesMut;
use log::{error, warn};
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot, watch};

/// The delay after the kernel ran out of descriptors: without it the loop would spin, since the connection
/// stays in the queue.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The minimum interval of log lines of one accept loop.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A listener as a worker sees it.
pub(super) struct WorkerListener {
    /// The socket.
    pub(super) bound: BoundListener,
    /// Its index in the configuration.
    pub(super) index: u16,
    /// The connection limit, shared by all workers.
    pub(super) room: Option<Arc<Semaphore>>,
}

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessState {
    /// Accepting.
    Serving,
    /// Not accepting; active connections continue.
    Draining,
    /// Ending now.
    Ended,
}

/// The delay before a listener that could not be registered is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Starts a worker's thread, which notifies `started` when it accepts connections.
///
/// # Errors
/// The kernel's error when no thread can be started.
pub(super) fn spawn(
    number: usize,
    doors: Vec<WorkerListener>,
    gateway: Gateway,
    conf: Arc<ServerConf>,
    stage: watch::Receiver<ProcessState>,
    started: oneshot::Sender<io::Result<()>>,
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
        runtime.block_on(run(doors, gateway, conf, stage, started));
        // Remaining tasks had their time; they must not hold the process.
        runtime.shutdown_background();
    })
}

async fn run(
    doors: Vec<WorkerListener>,
    gateway: Gateway,
    conf: Arc<ServerConf>,
    mut stage: watch::Receiver<ProcessState>,
    started: oneshot::Sender<io::Result<()>>,
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
    let accepting: Vec<_> = doors
        .into_iter()
        .map(|worker_listener| {
            let (worker_listener, service) = (Arc::new(worker_listener), Arc::clone(&service));
            let work = move || accept(Arc::clone(&worker_listener), Arc::clone(&service));
            supervision::spawn("accept", "", work)
        })
        .collect();
    let _ = started.send(Ok(()));
    // The sender is owned by the lifecycle; an error means that the process ends anyway.
    let _ = stage.wait_for(|stage| *stage != ProcessState::Serving).await;
    for task in &accepting {
        task.abort();
    }
    let _ = ending.send(true);
    // Wakes idle keep-alive connections, which will get no further request.
    proxy.http_cleanup().await;
    let _ = stage.wait_for(|stage| *stage == ProcessState::Ended).await;
}

async fn accept(worker_listener: Arc<WorkerListener>, service: Arc<RequestService>) {
    let index = worker_listener.index;
    let listener = loop {
        match worker_listener.bound.share().and_then(Listener::new) {
            Ok(listener) => break listener,
            // Descriptors may be exhausted for a while: the listener must not be lost for good.
            Err(error) => error!(error:%; "listener not registered; retrying"),
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    };
    let mut complained = None;
    loop {
        let permit = match &worker_listener.room {
            Some(room) => match Arc::clone(room).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    tell_full(&service.gateway, index);
                    Arc::clone(room).acquire_owned().await.ok()
                }
            },
            None => None,
        };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let (limits, protocols) = service.gateway.connection_settings(index);
                let conn_info = ConnInfo::plain(peer, index);
                match protocols {
                    None => {
                        let first = limits.time;
                        let connection = Connection::new(socket, BytesMut::new(), conn_info, limits, permit);
                        tokio::spawn(http1::serve(Box::new(connection), Arc::clone(&service), first));
                    }
                    Some(protocols) => {
                        let context = ConnectionContext { service: Arc::clone(&service), limits };
                        tokio::spawn(connection_setup::serve_connection(
                            socket, conn_info, protocols, context, permit,
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
fn tell_full(gateway: &Gateway, listener: u16) {
    const MESSAGE: &str =
        "listener has `max_connections` connections; new connections wait in the accept queue";
    let name = gateway.listener_name(listener);
    if moongate_sdk::log_throttle::admit(log::Level::Warn, MESSAGE, &[&name]) {
        log::warn!(listener = &*name; "{MESSAGE}");
    }
}
