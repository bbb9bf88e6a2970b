//! Waiting for the answers to a filter's calls: without the instance's lock, and several at once.

use crate::host::Phase;
use crate::instance::{Instance, Scene};
use moongate_sdk::{CallError, CallFuture, CallResponse, Services, log_throttle};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// Calls under way, by their numbers.
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

    /// The first that is answered; waits for ever when there is none.
    pub(crate) async fn next(&mut self) -> (u32, Result<CallResponse, CallError>) {
        poll_fn(|context| {
            for at in 0..self.calls.len() {
                if let Poll::Ready(answer) = self.calls[at].1.as_mut().poll(context) {
                    return Poll::Ready((self.calls.swap_remove(at).0, answer));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Nobody waits for them: their answers come to the filter without a request in sight.
    pub(crate) fn detach(self, instance: &Arc<Instance>, services: &Arc<dyn Services>) {
        for (number, calling) in self.calls {
            let (instance, services_of) = (instance.clone(), services.clone());
            services.spawn(Box::pin(async move {
                let answer = calling.await;
                let scene = Scene { services: Some(&services_of), ..Scene::default() };
                match instance.run(Phase::Aside, scene, |core| core.answered(number, answer)) {
                    Ok(came) => Self::new(came.outcome.calls).detach(&instance, &services_of),
                    Err(fault) => {
                        const MESSAGE: &str = "a filter failed at the answer to its call";
                        if log_throttle::admit(log::Level::Warn, MESSAGE, &[]) {
                            log::warn!(fault:%; "{MESSAGE}");
                        }
                    }
                }
            }));
        }
    }
}
