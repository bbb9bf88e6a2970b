//! Phases, named after the functions that a script defines for them.

use moongate_sdk::Phases;
use std::time::Duration;

/// A phase of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Message,
    Closed,
    Log,
}

impl Phase {
    /// All phases, in the order of their discriminants.
    pub(crate) const ALL: [Self; 7] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::Message,
        Self::Closed,
        Self::Log,
    ];

    /// The name of its function.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RequestHeaders => "request_headers",
            Self::RequestBody => "request_body",
            Self::ResponseHeaders => "response_headers",
            Self::ResponseBody => "response_body",
            Self::Message => "message",
            Self::Closed => "closed",
            Self::Log => "log",
        }
    }

    /// Whether the request can still be changed.
    pub(crate) const fn before_the_backend(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody)
    }

    /// Whether a response is still possible.
    pub(crate) const fn may_respond(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody | Self::ResponseHeaders)
    }

    /// Whether a script can be suspended in it.
    pub(crate) const fn may_wait(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::ResponseHeaders)
    }
}

/// The phases with a function in the script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefinedPhases(pub(crate) [bool; Phase::ALL.len()]);

impl DefinedPhases {
    pub(crate) fn has(self, phase: Phase) -> bool {
        self.0[phase as usize]
    }

    /// Whether a later call can read what a request left in `ctx`.
    pub(crate) fn remembers(self, recheck: Option<Duration>) -> bool {
        let calls = self.0.iter().filter(|defined| **defined).count();
        let again = [Phase::Message, Phase::ResponseBody].into_iter().any(|phase| self.has(phase));
        calls > 1 || again || recheck.is_some()
    }

    /// The phases that the gateway has to call.
    pub(crate) fn phases(self, recheck: Option<Duration>) -> Phases {
        let message = self.has(Phase::Message);
        Phases {
            // A plugin requests the whole body in the phase of the head.
            request_headers: self.has(Phase::RequestHeaders) || self.has(Phase::RequestBody),
            // The body is then shown whole; the script needs no pieces.
            request_body: false,
            response_headers: self.has(Phase::ResponseHeaders),
            response_body: self.has(Phase::ResponseBody),
            messages_to_backend: message,
            messages_to_client: message,
            recheck,
            closed: self.has(Phase::Closed),
            log: self.has(Phase::Log),
            waits: true,
            ..Phases::default()
        }
    }
}
