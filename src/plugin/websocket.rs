//! What the plugins of a route have to do with its living WebSockets: their messages, their end, and whether they may
//! live on. Where messages come from and how a WebSocket is closed stays out.
//!
//! A plugin that failed at one message is shown the next one: a WebSocket lives long, and what one client says must not
//! rid it of a plugin whose `on_error` is `open`.

use super::panic_guard::guard;
use super::phases::{MISPLACED, Panicked, await_verdict};
use super::{Chain, Entry};
use crate::telemetry::metrics::{Call, Phase};
use http::StatusCode;
use moongate_sdk::{Direction, Ended, Exchange, Fault, Message, MessageVerdict, Verdict};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a message when all plugins have seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerdict {
    /// It goes on as they left it.
    Forward,
    /// It goes no further.
    Drop,
    /// It goes no further, and the WebSocket ends with this Close.
    Close {
        /// The plugin's code.
        code: u16,
        /// The plugin's reason.
        reason: Cow<'static, str>,
    },
    /// It goes no further, for a plugin panicked or failed whose `on_error` is `closed`: the WebSocket ends with 1011.
    Failed,
}

/// What a plugin says of a WebSocket that it let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecheckVerdict {
    /// It may live on.
    Granted,
    /// It would be answered with this status now.
    Refused(StatusCode),
    /// The plugin panicked or failed, and its `on_error` is `closed`: the WebSocket ends with 1011.
    Failed,
}

impl Chain {
    /// Whether a plugin looks at messages that go this way.
    pub fn inspects(&self, direction: Direction) -> bool {
        !self.messages[direction as usize].is_empty()
    }

    /// Whether a plugin looks at messages, either way.
    pub fn inspects_any(&self) -> bool {
        self.messages.iter().any(|phase| !phase.is_empty())
    }

    /// Whether no plugin asks for the end of a WebSocket.
    pub fn skips_closed(&self) -> bool {
        self.closed.is_empty()
    }

    /// The plugins that are asked again about a WebSocket that lives: their positions, and how often.
    pub fn rechecks(&self) -> impl Iterator<Item = (usize, Duration)> {
        let every = |(at, entry): (usize, &Arc<Entry>)| Some((at, entry.phases().recheck?));
        self.entries.iter().enumerate().filter_map(every)
    }

    /// Shows a message to the plugins, until one keeps it from going on.
    pub fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> ChainVerdict {
        for &at in &self.messages[message.direction as usize] {
            if exchange.running.skips(at) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            // Who is as if it were not there when it fails must leave nothing half changed.
            let came = entry.is_dispensable().then(|| message.clone());
            let mut call = entry.metrics().call(Phase::Message);
            let fate = guard(|| entry.plugin().message(exchange, message));
            call.returned();
            let fault = match fate {
                Some(MessageVerdict::Forward) => continue,
                Some(MessageVerdict::Drop) => return ChainVerdict::Drop,
                Some(MessageVerdict::Close { code, reason }) if may_be_sent(code) => {
                    return ChainVerdict::Close { code, reason };
                }
                Some(MessageVerdict::Close { .. }) => Some(UNSENDABLE),
                Some(MessageVerdict::Failed(fault)) => Some(fault),
                None => None,
            };
            if entry.ends(fault.as_ref(), &call) {
                return ChainVerdict::Failed;
            }
            if let Some(came) = came {
                *message = came;
            }
        }
        ChainVerdict::Forward
    }

    /// Tells the plugins how the WebSocket ended. A panic of one is logged, and the next is told.
    pub fn closed(&self, exchange: &mut Exchange<'_>, ended: &Ended<'_>) {
        for &at in &self.closed {
            if exchange.running.skips(at) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            let mut call = entry.metrics().call(Phase::Closed);
            let told = guard(|| entry.plugin().closed(exchange, ended));
            call.returned();
            if told.is_none() {
                entry.ends(None, &call);
            }
        }
    }

    /// Asks the plugin at this position again about the handshake in `exchange`.
    pub async fn recheck(&self, at: usize, exchange: &mut Exchange<'_>) -> RecheckVerdict {
        let Some(entry) = self.entries.get(at).filter(|_| !exchange.running.skips(at)) else {
            return RecheckVerdict::Granted;
        };
        self.withdraw(exchange);
        for owner in 0..=at {
            self.withdraw_at(owner, exchange);
        }
        exchange.running.begin_plugin(at);
        let mut call = entry.metrics().call(Phase::RequestHeaders);
        let flow = guard(|| entry.plugin().request_headers(exchange));
        call.returned();
        let fault = match await_verdict(flow, &mut call).await {
            Ok(Verdict::Continue) => return RecheckVerdict::Granted,
            Ok(Verdict::Respond(reply)) => return RecheckVerdict::Refused(reply.status),
            Ok(Verdict::Body(_)) => Some(MISPLACED),
            Ok(Verdict::Failed(fault)) => Some(fault),
            Err(Panicked) => None,
        };
        if entry.ends(fault.as_ref(), &call) { RecheckVerdict::Failed } else { RecheckVerdict::Granted }
    }
}

/// A Close that no frame may carry.
const UNSENDABLE: Fault = Fault::fixed("it closed a WebSocket with a code that no Close may carry");

/// The codes of [`Fate::Close`].
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999)
}

impl Entry {
    /// It failed, or panicked when there is no fault to tell of. Whether the WebSocket ends with it.
    fn ends(&self, fault: Option<&Fault>, call: &Call<'_>) -> bool {
        call.failed();
        self.failed(fault).is_some()
    }
}

#[cfg(test)]
mod tests;
