//! Services of a plugin under `moongate plugin test`: calls are reported, and fail as unreachable.

use super::log_capture::LogCapture;
use moongate_sdk::{Call, CallError, CallFuture, CallTarget, Services};
use std::future::Future;
use std::pin::Pin;

pub(super) struct OfflineServices(pub(super) LogCapture);

impl Services for OfflineServices {
    fn call(&self, call: Call) -> CallFuture {
        let line = match &call.to {
            CallTarget::Upstream(name) => {
                format!("call {} {} to the upstream {name}", call.method, call.target)
            }
            CallTarget::Url(url) => format!("call {} {url}", call.method),
        };
        self.0.note(format!("{line}: not sent, since `plugin test` has no upstreams"));
        Box::pin(std::future::ready(Err(CallError::Unreachable)))
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.note("background task: not started by `plugin test`".to_owned());
    }

    fn has_upstream(&self, _: &str) -> bool {
        false
    }
}
