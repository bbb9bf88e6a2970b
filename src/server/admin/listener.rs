//! Listener of the admin address: an accept loop on its own thread, so that it responds under any
//! load of the workers, and while other threads hang.

use super::connection_limit::{AdmittedConnection, ConnectionLimit};
use super::live::History;
use super::{Admin, AdminState, connection};
use crate::runtime::supervision::{self, Backoff};
use crate::telemetry::metrics;
use log::warn;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

/// The wait after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The minimum interval of log lines with the same message.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long the connections of a removed address may last: the response to an upgrade waits for the WebSockets.
const LAST_CONNECTIONS: Duration = Duration::from_secs(60);

/// The admin address of a process.
pub(in crate::server) struct AdminListener {
    admin: Arc<Admin>,
    retired: watch::Sender<bool>,
    start: SyncSender<()>,
    ended: oneshot::Receiver<()>,
}

impl AdminListener {
    /// Prepares the thread of an address, which accepts connections from [`AdminListener::serve`] on. Without that
    /// call the thread ends.
    ///
    /// # Errors
    /// When the socket cannot be registered, or no thread can be started.
    pub(in crate::server) fn prepare(
        listener: std::net::TcpListener,
        token: Option<&str>,
        state: Arc<dyn AdminState>,
        history: Arc<History>,
    ) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let admin = Arc::new(Admin::new(state, token, port, history));
        let (prepared, outcome) = sync_channel(1);
        let (start, started) = sync_channel(1);
        let (retired, mut retirement) = watch::channel(false);
        let (ends, ended) = oneshot::channel();
        let served = Arc::clone(&admin);
        // A thread of its own: orchestrators get responses even if the runtime of reloads and probes hangs.
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let (runtime, listener) = match prepare(listener) {
                Ok(ready) => ready,
                Err(error) => {
                    let _ = prepared.send(Err(error));
                    return;
                }
            };
            // The caller waits for it.
            let _ = prepared.send(Ok(()));
            if started.recv().is_err() {
                return;
            }
            // Dropped at the end of the thread.
            let _ends: oneshot::Sender<()> = ends;
            let count = Arc::new(());
            let counted = Arc::clone(&count);
            let work = move || accept(Arc::clone(&listener), Arc::clone(&served), Arc::clone(&counted));
            runtime.block_on(async {
                tokio::select! {
                    () = supervision::keep("admin", String::new(), Backoff::SOON, work) => {}
                    // The sender is dropped only with the process.
                    _ = retirement.wait_for(|is_retired| *is_retired) => {}
                }
                let until = Instant::now() + LAST_CONNECTIONS;
                while Arc::strong_count(&count) > 1 && Instant::now() < until {
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            });
        })?;
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("admin thread ended")))?;
        Ok(Self { admin, retired, start, ended })
    }

    /// Accepts connections from now on.
    pub(in crate::server) fn serve(&self) {
        // The thread waits for it.
        let _ = self.start.try_send(());
    }

    /// Changes the token. Sessions that began with another one end.
    pub(in crate::server) fn set_token(&self, token: Option<&str>) {
        self.admin.set_token(token);
    }

    /// Accepts no further connection, and ends each open one with its response. The receiver ends with the last one.
    pub(in crate::server) fn retire(self) -> oneshot::Receiver<()> {
        self.admin.retire();
        self.retired.send_replace(true);
        self.ended
    }
}

fn prepare(listener: std::net::TcpListener) -> io::Result<(Runtime, Arc<TcpListener>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    Ok((runtime, Arc::new(listener)))
}

/// Accepts connections and serves each in a task of its own, which holds a clone of `count`.
pub(super) async fn accept(listener: Arc<TcpListener>, admin: Arc<Admin>, count: Arc<()>) {
    let limit = ConnectionLimit::new(admin.initial_trust());
    let (mut failures, mut evictions) = (LogInterval::default(), LogInterval::default());
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let client = admin.limits().client_prefix.network(peer.ip());
                limit.set_trust(admin.initial_trust());
                let AdmittedConnection { place, evicted } = limit.admit(client);
                if let Some(client) = evicted {
                    metrics::global().admin_connection_evicted();
                    if evictions.is_over() {
                        warn!(client:%; "admin connection evicted for a new one");
                    }
                }
                let (admin, counted) = (Arc::clone(&admin), Arc::clone(&count));
                tokio::spawn(async move {
                    connection::serve(socket, peer, place, admin).await;
                    drop(counted);
                });
                // The new connection is read before the next one is accepted: a request that has arrived is
                // served, however fast other clients connect.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if failures.is_over() {
                    warn!(error:%; "admin connection not accepted");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// When the message was last logged.
#[derive(Default)]
struct LogInterval(Option<Instant>);

impl LogInterval {
    /// Returns whether the message may be logged again; this starts a new interval.
    fn is_over(&mut self) -> bool {
        let is_over = self.0.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if is_over {
            self.0 = Some(Instant::now());
        }
        is_over
    }
}
