//! The services of a plugin that is tried outside the gateway: calls are noted, and nobody answers.

use super::log_capture::Watch;
use moongate_sdk::{Call, CallError, CallFuture, CallTarget, Services};
use std::future::Future;
use std::pin::Pin;

pub(super) struct Offline(pub(super) Watch);

impl Services for Offline {
    fn call(&self, call: Call) -> CallFuture {
        let line = match &call.to {
            CallTarget::Upstream(name) => {
                format!("call {} {} to the upstream {name}", call.method, call.target)
            }
            CallTarget::Url(url) => format!("call {} {url}", call.method),
        };
        self.0.note(format!("{line}: not made, there are no upstreams here"));
        Box::pin(std::future::ready(Err(CallError::Unreachable)))
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.note("work beside the request: not begun here".to_owned());
    }

    fn has_upstream(&self, _: &str) -> bool {
        false
    }
}
