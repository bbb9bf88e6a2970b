//! The listener of the admin address: an accept loop on the control runtime, so that it responds however busy the
//! workers are.

use super::connection_limit::{Admitted, ConnectionLimit};
use super::{Admin, AdminState, connection};
use crate::server::listen::Bound;
use crate::telemetry::metrics;
use log::warn;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The wait after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The shortest time between two log lines about the same thing.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Serves the admin address until the runtime ends.
///
/// # Errors
/// When the runtime cannot watch the socket.
pub(in crate::server) fn start(
    bound: Bound,
    token: Option<&str>,
    state: Arc<dyn AdminState>,
) -> io::Result<()> {
    let Bound::Tcp(listener) = bound else {
        return Err(io::Error::other("the admin address is ip:port"));
    };
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(accept(listener, Arc::new(Admin::new(state, token))));
    Ok(())
}

/// Accepts connections and serves each in a task of its own.
pub(super) async fn accept(listener: TcpListener, admin: Arc<Admin>) {
    let limit = ConnectionLimit::new(admin.initial_trust());
    let (mut failures, mut evictions) = (LogInterval::default(), LogInterval::default());
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let client = admin.limits().client_prefix.network(peer.ip());
                let Admitted { place, evicted } = limit.admit(client);
                if let Some(client) = evicted {
                    metrics::global().admin_connection_evicted();
                    if evictions.is_over() {
                        warn!(client:%; "admin connection evicted for a new one");
                    }
                }
                tokio::spawn(connection::serve(socket, peer, place, Arc::clone(&admin)));
                // The new connection is read before the next one is accepted: a request that has arrived already is
                // served, however fast other clients connect.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if failures.is_over() {
                    warn!(error:%; "admin connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// When something was last logged.
#[derive(Default)]
struct LogInterval(Option<Instant>);

impl LogInterval {
    /// Whether it may be logged again; a new interval begins then.
    fn is_over(&mut self) -> bool {
        let is_over = self.0.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if is_over {
            self.0 = Some(Instant::now());
        }
        is_over
    }
}
