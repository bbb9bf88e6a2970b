//! Listener of the admin address: an accept loop on its own thread, so that it responds under any
//! load of the workers, and while other threads hang.

use super::connection_limit::{AdmittedConnection, ConnectionLimit};
use super::live::History;
use super::{Admin, AdminState, connection};
use crate::runtime::supervision::{self, Backoff};
use crate::server::bind::BoundListener;
use crate::telemetry::metrics;
use log::warn;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The wait after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The minimum interval of log lines with the same message.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Serves the admin address until the process ends.
///
/// # Errors
/// When the socket cannot be registered, or no thread can be started.
pub(in crate::server) fn start(
    bound: BoundListener,
    token: Option<&str>,
    state: Arc<dyn AdminState>,
    history: Arc<History>,
) -> io::Result<()> {
    let BoundListener::Tcp(listener) = bound else {
        return Err(io::Error::other("the admin address is ip:port"));
    };
    let port = listener.local_addr()?.port();
    let admin = Arc::new(Admin::new(state, token, port, history));
    let (started, outcome) = sync_channel(1);
    // A thread of its own: orchestrators get responses even if the runtime of reloads and probes hangs.
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let (runtime, listener) = match prepare(listener) {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        // The caller waits for it.
        let _ = started.send(Ok(()));
        let work = move || accept(Arc::clone(&listener), Arc::clone(&admin));
        runtime.block_on(supervision::keep("admin", String::new(), Backoff::SOON, work));
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("admin thread ended")))
}

fn prepare(listener: std::net::TcpListener) -> io::Result<(Runtime, Arc<TcpListener>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    Ok((runtime, Arc::new(listener)))
}

/// Accepts connections and serves each in a task of its own.
pub(super) async fn accept(listener: Arc<TcpListener>, admin: Arc<Admin>) {
    let limit = ConnectionLimit::new(admin.initial_trust());
    let (mut failures, mut evictions) = (LogInterval::default(), LogInterval::default());
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let client = admin.limits().client_prefix.network(peer.ip());
                let AdmittedConnection { place, evicted } = limit.admit(client);
                if let Some(client) = evicted {
                    metrics::global().admin_connection_evicted();
                    if evictions.is_over() {
                        warn!(client:%; "admin connection evicted for a new one");
                    }
                }
                tokio::spawn(connection::serve(socket, peer, place, Arc::clone(&admin)));
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
