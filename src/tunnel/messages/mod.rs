//! Messages that somebody looks at on their way, and WebSockets that somebody asks about while they live.
//!
//! A direction with an [`Inspector`] is taken apart here: a [`Stage`] unmasks what comes, puts the fragments of a
//! message together, shows it, and writes what is left of it as one frame. Control frames pass in between at once. The
//! relay then treats what a stage wrote as if its source had sent it, so backpressure, pings, drains and a change of
//! backend know nothing of messages. Who inspects, and what a plugin is, stays out.

mod buffer_pool;
mod reassembler;

#[cfg(test)]
mod tests;

pub(super) use buffer_pool::lend;
pub use reassembler::{FeedResult, Reassembler};

use super::{Outcome, Reason, Side};
use crate::plugin::{ChainVerdict, RecheckVerdict};
use crate::websocket::frame::{Rules, Violation};
use moongate_sdk::Message;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The longest message that is put together where the policy sets no `max_message`, in bytes: without a bound, a
/// client could make the gateway keep whatever it sends.
pub const DEFAULT_MAX_MESSAGE: u64 = 1 << 20;

/// Who looks at the messages of one tunnel, and hears of its end.
pub trait Inspector: Send {
    /// Whether the messages from this side are shown; asked once, when the tunnel begins.
    fn inspects(&self, from: Side) -> bool;

    /// A whole message. Text is UTF-8 when it comes here.
    fn message(&mut self, message: &mut Message) -> ChainVerdict;

    /// The tunnel has ended.
    fn ended(&mut self, outcome: &Outcome);
}

/// The end of a tunnel for what plugins said: both sides get this Close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginClose {
    /// For the access log and the metrics.
    pub reason: Reason,
    /// Its code.
    pub code: u16,
    /// Why; cut to 123 bytes when it is written.
    pub text: Cow<'static, str>,
}

impl PluginClose {
    /// A plugin could not do its work.
    pub(super) fn failed() -> Self {
        Self { reason: Reason::PluginFailed, code: 1011, text: "plugin failed".into() }
    }

    /// A plugin made text of something else.
    fn not_text() -> Self {
        Self { reason: Reason::PluginFailed, code: 1007, text: "a plugin made text that is not UTF-8".into() }
    }

    /// What a plugin says of a tunnel that is asked about; `None` when it may live on.
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

/// Who is asked again and again whether a tunnel may live on.
pub trait Recheck: Send + Sync {
    /// How often, once for each question; asked once, when the tunnel begins.
    fn intervals(&self) -> Vec<Duration>;

    /// Asks the question of this index. Dropping the future takes it back.
    fn ask(self: Arc<Self>, question: usize) -> Asking;
}

/// A question under way.
pub type Asking = Pin<Box<dyn Future<Output = RecheckVerdict> + Send>>;

/// Why nothing more comes from a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The source broke the protocol.
    Violation(Violation),
    /// The inspector ends the tunnel.
    Dismissed(PluginClose),
}

/// The rules of a direction that is taken apart: none may pass that cannot be understood, for it would pass unseen.
/// `deflate` stays off, since compression is not offered where messages are inspected.
#[must_use]
pub fn rules(of_policy: &Rules) -> Rules {
    let max_message = match of_policy.max_message {
        u64::MAX => DEFAULT_MAX_MESSAGE,
        set => set,
    };
    Rules { max_frame: of_policy.max_frame, max_message, deflate: false, strict: true }
}
