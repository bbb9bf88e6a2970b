//! The plugins of a route's open WebSockets: messages, end, and periodic rechecks. The tunnel parses messages
//! and closes WebSockets.
//!
//! A plugin that failed on a message is called with the next one. Otherwise one client message could disable
//! a plugin with `on_error: open` for the life of a WebSocket.

use super::panic_guard::guard;
use super::phases::{MISPLACED, PluginPanic, await_verdict};
use super::{Chain, Entry};
use crate::telemetry::metrics::{Call, Phase};
use http::StatusCode;
use moongate_sdk::{
    Direction, Exchange, Fault, Message, MessageVerdict, Verdict, WebSocketEnd, may_choose_close_code,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The chain's verdict on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerdict {
    /// Forward the message as the plugins changed it.
    Forward,
    /// Drop the message.
    Drop,
    /// Drop the message and close the WebSocket.
    Close {
        /// The plugin's close code.
        code: u16,
        /// The plugin's close reason.
        reason: Cow<'static, str>,
    },
    /// Drop the message and close with 1011: a plugin with `on_error: closed` panicked or failed.
    Failed,
}

/// A plugin's verdict on an open WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecheckVerdict {
    /// The WebSocket may stay open.
    Granted,
    /// The handshake would be rejected with this status now.
    Refused(StatusCode),
    /// A plugin with `on_error: closed` panicked or failed: the WebSocket is closed with 1011.
    Failed,
}

impl Chain {
    /// Returns whether a plugin inspects messages in a direction.
    pub fn inspects(&self, direction: Direction) -> bool {
        !self.messages[direction as usize].is_empty()
    }

    /// Returns whether a plugin inspects messages in either direction.
    pub fn inspects_any(&self) -> bool {
        self.messages.iter().any(|phase| !phase.is_empty())
    }

    /// Returns whether no plugin has the closed phase.
    pub fn skips_closed(&self) -> bool {
        self.closed.is_empty()
    }

    /// The plugins that recheck open WebSockets: positions and intervals.
    pub fn rechecks(&self) -> impl Iterator<Item = (usize, Duration)> {
        let every = |(at, entry): (usize, &Arc<Entry>)| Some((at, entry.phases().recheck?));
        self.entries.iter().enumerate().filter_map(every)
    }

    /// Calls the plugins with a message, until one drops it.
    pub fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> ChainVerdict {
        for &at in &self.messages[message.direction as usize] {
            if exchange.running.skips(at) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            // A dispensable plugin that fails must leave no partial change.
            let original = entry.is_dispensable().then(|| message.clone());
            let mut call = entry.metrics().call(Phase::Message);
            let verdict = guard(|| entry.plugin().message(exchange, message));
            call.returned();
            let fault = match verdict {
                Some(MessageVerdict::Forward) => continue,
                Some(MessageVerdict::Drop) => return ChainVerdict::Drop,
                Some(MessageVerdict::Close { code, reason }) if may_choose_close_code(code) => {
                    return ChainVerdict::Close { code, reason };
                }
                Some(MessageVerdict::Close { .. }) => Some(UNSENDABLE),
                Some(MessageVerdict::Failed(fault)) => Some(fault),
                None => None,
            };
            if entry.ends(fault.as_ref(), &call) {
                return ChainVerdict::Failed;
            }
            if let Some(original) = original {
                *message = original;
            }
        }
        ChainVerdict::Forward
    }

    /// Calls the plugins after the WebSocket ended. A panic is logged, and the next plugin is called.
    pub fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        for &at in &self.closed {
            if exchange.running.skips(at) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            let mut call = entry.metrics().call(Phase::Closed);
            let result = guard(|| entry.plugin().closed(exchange, ended));
            call.returned();
            if result.is_none() {
                entry.ends(None, &call);
            }
        }
    }

    /// Rechecks the handshake in `exchange` with the plugin at this position.
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
            Err(PluginPanic) => None,
        };
        if entry.ends(fault.as_ref(), &call) { RecheckVerdict::Failed } else { RecheckVerdict::Granted }
    }
}

/// A close code or reason that no frame may carry.
const UNSENDABLE: Fault = Fault::fixed("the plugin closed a WebSocket with an invalid close code");

impl Entry {
    /// Handles a failed plugin, or a panic if there is no fault. Returns whether the WebSocket ends.
    fn ends(&self, fault: Option<&Fault>, call: &Call<'_>) -> bool {
        call.failed();
        self.failed(fault).is_some()
    }
}

#[cfg(test)]
mod tests;
