//! The services that plugins may call: HTTP requests of their own, and background tasks.
//!
//! A call uses the generation that serves when it is made.

mod call_target;
mod http_exchange;
#[cfg(test)]
mod tests;

use super::Live;
use crate::plugin::CaughtFuture;
use log::error;
use moongate_sdk::{Call, CallError, CallFuture, CallResponse, CallTarget, Services, log_throttle};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;

/// The services of a running gateway.
pub(super) struct Gateway {
    /// Weak, because the tasks that hold these services belong to the configuration.
    live: Weak<Live>,
}

impl Gateway {
    pub(super) fn new(live: &Arc<Live>) -> Self {
        Self { live: Arc::downgrade(live) }
    }
}

impl Services for Gateway {
    fn call(&self, call: Call) -> CallFuture {
        let live = self.live.clone();
        Box::pin(async move {
            let answer = send(&live, &call);
            tokio::time::timeout(call.timeout, answer).await.unwrap_or(Err(CallError::TimedOut))
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

async fn send(live: &Weak<Live>, call: &Call) -> Result<CallResponse, CallError> {
    match &call.to {
        CallTarget::Url(url) => call_target::url(call, url).await,
        CallTarget::Upstream(name) => {
            let snapshot = live.upgrade().ok_or(CallError::Unknown)?.pin();
            let cluster = Arc::clone(snapshot.cluster(name).ok_or(CallError::Unknown)?);
            let workers = snapshot.threads;
            // A slow call must not keep an old generation.
            drop(snapshot);
            call_target::upstream(call, cluster, workers).await
        }
    }
}
