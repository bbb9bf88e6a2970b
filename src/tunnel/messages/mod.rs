//! Inspection of WebSocket messages by plugins, and rechecks of open WebSockets.
//!
//! A direction with an [`Inspector`] is decoded here. A [`Reassembler`] unmasks the frames, joins the
//! fragments of a message, passes it to the inspector and writes the result as one frame. Control frames are
//! forwarded between fragments. The relay treats the output like bytes read from the source, so backpressure,
//! pings, drains and failover are independent of messages.

mod buffer_pool;
mod reassembler;

#[cfg(test)]
mod tests;

pub(super) use buffer_pool::lend;
pub use reassembler::{FeedResult, Reassembler};

use super::close_frames::{self, CloseFrame};
use super::{Outcome, Reason, Side};
use crate::plugin::{ChainVerdict, RecheckVerdict};
use crate::websocket::frame::{Rules, Violation};
use moongate_sdk::Message;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The default maximum size of a reassembled message in bytes, where the policy has no `max_message`: without
/// a bound, a client could exhaust the gateway's memory.
pub const DEFAULT_MAX_MESSAGE: u64 = 1 << 20;

/// Inspects the messages of one tunnel and receives its outcome.
pub trait Inspector: Send {
    /// Returns whether messages from this side are inspected; called once, at the start of the tunnel.
    fn inspects(&self, from: Side) -> bool;

    /// Inspects a whole message. Text is valid UTF-8.
    fn message(&mut self, message: &mut Message) -> ChainVerdict;

    /// Receives the outcome of the tunnel.
    fn ended(&mut self, outcome: &Outcome);

    /// What an inspector of another process needs to continue as this one; `None` if no other one can.
    fn state(&mut self) -> Option<serde_json::Value>;
}

/// The end of a tunnel by a plugin: both sides get this Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginClose {
    /// For the access log and the metrics.
    pub reason: Reason,
    /// The close code.
    pub code: u16,
    /// The close reason; truncated to 123 bytes when it is written.
    pub text: Cow<'static, str>,
}

impl PluginClose {
    /// A plugin failed.
    pub(super) fn failed() -> Self {
        Self::after_failure(&close_frames::PLUGIN_FAILED)
    }

    /// A plugin changed a text message to invalid UTF-8.
    fn not_text() -> Self {
        Self::after_failure(&close_frames::PLUGIN_SENT_INVALID_UTF8)
    }

    fn after_failure(frame: &'static CloseFrame) -> Self {
        Self { reason: Reason::PluginFailed, code: frame.code, text: frame.text.into() }
    }

    /// The Close for a recheck's verdict; `None` if the tunnel may stay open.
    pub(super) fn of(standing: &RecheckVerdict) -> Option<Self> {
        match standing {
            RecheckVerdict::Granted => None,
            RecheckVerdict::Refused(status) => {
                Some(Self { reason: Reason::Refused, code: 1008, text: status.as_str().to_owned().into() })
            }
            RecheckVerdict::Failed => Some(Self::failed()),
        }
    }
}

/// Rechecks an open tunnel periodically.
pub trait Recheck: Send + Sync {
    /// The intervals, one per recheck; called once, at the start of the tunnel.
    fn intervals(&self) -> Vec<Duration>;

    /// Starts the recheck with this index. Dropping the future cancels it.
    fn ask(self: Arc<Self>, question: usize) -> RecheckFuture;

    /// What the rechecks of another process need to continue as these; `None` if no other ones can. Not called during a
    /// recheck.
    fn state(&self) -> Option<serde_json::Value>;
}

/// A recheck in progress.
pub type RecheckFuture = Pin<Box<dyn Future<Output = RecheckVerdict> + Send>>;

/// Why a reassembler stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The source violated the protocol.
    Violation(Violation),
    /// The inspector closed the tunnel.
    Dismissed(PluginClose),
}

/// The rules of an inspected direction: frames that cannot be decoded are rejected, since they would bypass
/// inspection. `deflate` stays off, since compression is not negotiated for inspected WebSockets.
#[must_use]
pub fn rules(of_policy: &Rules) -> Rules {
    let max_message = match of_policy.max_message {
        u64::MAX => DEFAULT_MAX_MESSAGE,
        set => set,
    };
    Rules { max_frame: of_policy.max_frame, max_message, deflate: false, strict: true }
}
