//! What the gateway does for its plugins: requests of their own, and work beside the requests.
//!
//! It follows the configuration: a call looks at the generation that serves when it is made. What a plugin
//! does with an answer stays out.

mod call_target;
mod http_exchange;
#[cfg(test)]
mod tests;

use super::Live;
use crate::plugin::Guarded;
use crate::runtime::blocking_pool::SYSTEM_FILES;
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
    /// Weak: the tasks that hold these services are the living configuration's own.
    live: Weak<Live>,
    /// One a thread that serves, and the first for all others: a connection belongs to the runtime that
    /// opened it. Made when first needed, for making one reads the system's roots.
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
                // Read when it is first polled: that happens on the thread whose runtime it uses.
                let connector = connector(&connectors, worker()).await?;
                send(&live, connector, &call).await
            };
            tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::TimedOut))
        })
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let Ok(runtime) = Handle::try_current() else {
            error!("a plugin's work cannot be started: its thread has no runtime");
            return;
        };
        runtime.spawn(async {
            if Guarded::new(work).await.is_none() {
                const MESSAGE: &str = "a plugin's work beside the requests panicked";
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

/// The thread's connector.
async fn connector(all: &[OnceCell<Connector>], worker: usize) -> Result<&Connector, CallError> {
    let Some(cell) = all.get(worker).or(all.first()) else { return Err(CallError::Unreachable) };
    cell.get_or_try_init(|| async {
        let runtime = Handle::current();
        let make = move || {
            let _entered = runtime.enter();
            Connector::new(Some(ConnectorOptions::new(KEPT)))
        };
        // It reads files, and panics when the system's roots cannot be read.
        SYSTEM_FILES.run(make).await.map_err(|error| {
            error!(error:%; "the system's root certificates cannot be read");
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
            // A call that takes long must not keep an old generation.
            drop(snapshot);
            call_target::upstream(connector, call, &cluster).await
        }
    }
}
