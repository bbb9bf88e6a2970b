//! Pending HTTP calls of a filter: awaited concurrently, without the instance's lock.

use crate::host::Phase;
use crate::instance::{CallbackContext, Instance};
use moongate_sdk::{CallError, CallFuture, CallResponse, Services, log_throttle};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// Pending calls, by their numbers.
#[derive(Default)]
pub(crate) struct Calls {
    calls: Vec<(u32, CallFuture)>,
}

impl Calls {
    pub(crate) fn new(calls: Vec<(u32, CallFuture)>) -> Self {
        Self { calls }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn extend(&mut self, more: Vec<(u32, CallFuture)>) {
        self.calls.extend(more);
    }

    /// The first completed call; pending forever without calls.
    pub(crate) async fn next(&mut self) -> (u32, Result<CallResponse, CallError>) {
        poll_fn(|context| {
            for at in 0..self.calls.len() {
                if let Poll::Ready(result) = self.calls[at].1.as_mut().poll(context) {
                    return Poll::Ready((self.calls.swap_remove(at).0, result));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Continues the calls in the background: the filter gets their responses without a visible request.
    pub(crate) fn detach(self, instance: &Arc<Instance>, services: &Arc<dyn Services>) {
        for (number, calling) in self.calls {
            let (instance, services_of) = (instance.clone(), services.clone());
            services.spawn(Box::pin(async move {
                let result = calling.await;
                let context = CallbackContext { services: Some(&services_of), ..CallbackContext::default() };
                match instance.run(Phase::NoRequest, context, |core| core.http_call_response(number, result))
                {
                    Ok(result) => Self::new(result.outcome.calls).detach(&instance, &services_of),
                    Err(fault) => {
                        const MESSAGE: &str = "filter failed on a call response";
                        if log_throttle::admit(log::Level::Warn, MESSAGE, &[]) {
                            log::warn!(fault:%; "{MESSAGE}");
                        }
                    }
                }
            }));
        }
    }
}
