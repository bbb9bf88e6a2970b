//! The services that plugins may call: HTTP requests of their own, and background tasks.
//!
//! A call uses the generation that serves when it is made.

mod call_target;
mod http_exchange;
#[cfg(test)]
mod tests;

use super::Live;
use crate::plugin::CaughtFuture;
use crate::runtime::blocking_pool::SYSTEM_FILES;
use crate::tls::platform_roots;
use log::error;
use moongate_sdk::{Call, CallError, CallFuture, CallResponse, CallTarget, Services, log_throttle, worker};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

/// Idle connections that each worker keeps for plugins.
const KEPT: usize = 64;

/// The services of a running gateway.
pub(super) struct Gateway {
    /// Weak, because the tasks that hold these services belong to the configuration.
    live: Weak<Live>,
    /// One per worker thread; the first serves all other threads. A connection belongs to the runtime that
    /// opened it. Created lazily, since creating one parses the system's root certificates.
    connectors: Arc<[OnceCell<Connector>]>,
}

impl Gateway {
    pub(super) fn new(live: &Arc<Live>) -> Self {
        let threads = live.look().threads + 1;
        Self {
            live: Arc::downgrade(live),
            connectors: std::iter::repeat_with(OnceCell::new).take(threads).collect(),
        }
    }
}

impl Services for Gateway {
    fn call(&self, call: Call) -> CallFuture {
        let (live, connectors) = (self.live.clone(), Arc::clone(&self.connectors));
        Box::pin(async move {
            let limit = call.timeout;
            let answer = async {
                // The worker is determined at the first poll, on the thread whose runtime is used.
                let connector = connector(&connectors, worker()).await?;
                send(&live, connector, &call).await
            };
            tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::TimedOut))
        })
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let Ok(runtime) = Handle::try_current() else {
            error!("plugin task not started: its thread has no runtime");
            return;
        };
        runtime.spawn(async {
            if CaughtFuture::new(work).await.is_none() {
                const MESSAGE: &str = "plugin background task panicked";
                if log_throttle::admit(log::Level::Error, MESSAGE, &[]) {
                    error!("{MESSAGE}");
                }
            }
        });
    }

    fn has_upstream(&self, name: &str) -> bool {
        self.live.upgrade().is_some_and(|live| live.look().cluster(name).is_some())
    }
}

/// The connector of the thread.
async fn connector(all: &[OnceCell<Connector>], worker: usize) -> Result<&Connector, CallError> {
    let Some(cell) = all.get(worker).or(all.first()) else { return Err(CallError::Unreachable) };
    cell.get_or_try_init(|| async {
        let runtime = Handle::current();
        let make = move || {
            let _entered = runtime.enter();
            let options = ConnectorOptions::new(KEPT);
            Connector::new(Some(ConnectorOptions { ca_file: platform_roots::ca_file(), ..options }))
        };
        // Creating one reads a file, and panics if that fails.
        SYSTEM_FILES.run(make).await.map_err(|error| {
            error!(error:%; "system root certificates not read");
            CallError::Unreachable
        })
    })
    .await
}

async fn send(live: &Weak<Live>, connector: &Connector, call: &Call) -> Result<CallResponse, CallError> {
    match &call.to {
        CallTarget::Url(url) => call_target::url(connector, call, url).await,
        CallTarget::Upstream(name) => {
            let snapshot = live.upgrade().ok_or(CallError::Unknown)?.pin();
            let cluster = Arc::clone(snapshot.cluster(name).ok_or(CallError::Unknown)?);
            // A slow call must not keep an old generation.
            drop(snapshot);
            call_target::upstream(connector, call, &cluster).await
        }
    }
}
