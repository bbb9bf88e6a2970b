//! The response that replaces the current one: a plugin's reply, or a failure.

use super::failure::Failure;
use crate::plugin::Decision;
use moongate_sdk::{Reply, log_throttle};

/// The response that replaces the current one.
#[derive(Debug)]
pub(super) enum ReplacementResponse {
    /// A plugin's reply; with a position if that plugin replaced a response.
    Reply(Option<usize>, Box<Reply>),
    /// An error response of the gateway.
    Failure(Failure),
}

impl ReplacementResponse {
    /// The replacement by a decision in a request phase, if any.
    pub(super) fn of(decision: Decision) -> Option<Self> {
        Self::to_response(decision).map(|instead| match instead {
            Self::Reply(_, reply) => Self::Reply(None, reply),
            failure @ Self::Failure(_) => failure,
        })
    }

    /// The replacement by a decision in a response phase, if any.
    pub(super) fn to_response(decision: Decision) -> Option<Self> {
        match decision {
            Decision::Continue => None,
            Decision::Respond { at, by, reply } if reply.status.is_informational() => {
                const MESSAGE: &str = "plugin responded with an interim status";
                if log_throttle::admit(log::Level::Error, MESSAGE, &[&by]) {
                    log::error!(plugin = &*by, position = at; "{MESSAGE}");
                }
                Some(Self::Failure(Failure::Plugin))
            }
            Decision::Respond { at, reply, .. } => Some(Self::Reply(Some(at), reply)),
            Decision::Body { .. } | Decision::Failed(_) => Some(Self::Failure(Failure::Plugin)),
        }
    }
}

impl From<Failure> for ReplacementResponse {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}
