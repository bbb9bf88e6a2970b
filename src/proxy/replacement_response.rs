//! The response that a client gets in place of the one under way: a plugin's reply, or a failure.

use super::failure::Failure;
use crate::plugin::Decision;
use moongate_sdk::{Reply, log_throttle};

/// What the client gets in place of the answer that was under way.
#[derive(Debug)]
pub(super) enum ReplacementResponse {
    /// A plugin's reply: to the request, or to an answer, from the plugin at a position.
    Reply(Option<usize>, Box<Reply>),
    /// An answer of the gateway's own.
    Failure(Failure),
}

impl ReplacementResponse {
    /// What a decision about the request puts in place of its answer, if anything.
    pub(super) fn of(decision: Decision) -> Option<Self> {
        Self::to_response(decision).map(|instead| match instead {
            Self::Reply(_, reply) => Self::Reply(None, reply),
            failure @ Self::Failure(_) => failure,
        })
    }

    /// What a decision about an answer puts in its place, if anything.
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
