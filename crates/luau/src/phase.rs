//! The phases by the names of the functions that a script defines for them.

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
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 7] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::Message,
        Self::Closed,
        Self::Log,
    ];

    /// The function that a script defines for it.
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

    /// Whether an answer can still be given.
    pub(crate) const fn may_answer(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody | Self::ResponseHeaders)
    }

    /// Whether a script can wait in it.
    pub(crate) const fn may_wait(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::ResponseHeaders)
    }
}

/// The phases for which a script has a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defined(pub(crate) [bool; Phase::ALL.len()]);

impl Defined {
    pub(crate) fn has(self, phase: Phase) -> bool {
        self.0[phase as usize]
    }

    /// Whether what a request left in `ctx` can ever be read by a later call.
    pub(crate) fn remembers(self, recheck: Option<Duration>) -> bool {
        let calls = self.0.iter().filter(|defined| **defined).count();
        let again = [Phase::Message, Phase::ResponseBody].into_iter().any(|phase| self.has(phase));
        calls > 1 || again || recheck.is_some()
    }

    /// What the gateway has to call.
    pub(crate) fn phases(self, recheck: Option<Duration>) -> Phases {
        let message = self.has(Phase::Message);
        Phases {
            // The head is where a plugin asks for the whole body.
            request_headers: self.has(Phase::RequestHeaders) || self.has(Phase::RequestBody),
            // And then it is shown whole; in pieces nobody wants it.
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
