//! The ordered plugins of one route, and the instances behind them.
//!
//! What plugins do stays in their crates, and which kinds exist is a parameter: a gateway with plugins of
//! its own passes another table. Running a chain allocates nothing and waits only when a plugin does.

mod background;
mod condition;
mod instance_cache;
pub mod kinds;
mod owned_headers;
mod panic_guard;
mod phases;
mod websocket;

pub use instance_cache::{Builder, Entry, Instances};
pub use panic_guard::Guarded;
pub use websocket::{ChainVerdict, RecheckVerdict};

use moongate_expr::ExpressionPhase;
use moongate_sdk::{Phases, Reply, Running};
use std::sync::Arc;

/// The plugins of one route in the order written: those of every route first, then its own. For answers,
/// those that give bodies another coding come last.
#[derive(Debug, Default)]
pub struct Chain {
    entries: Box<[Arc<Entry>]>,
    owned: Box<[owned_headers::Owned]>,
    request: Positions,
    request_body: Positions,
    response: Positions,
    response_body: Positions,
    log: Positions,
    /// By the way that messages go: to the backend, to the client.
    messages: [Positions; 2],
    closed: Positions,
    waits: bool,
}

/// Positions of the plugins that take part in a phase, in order.
type Positions = Box<[usize]>;

/// What the plugins decided about a request.
#[derive(Debug)]
pub enum Decision {
    /// On to a backend.
    Continue,
    /// This is the answer.
    Respond {
        /// The position in the chain of the plugin that made it.
        at: usize,
        /// That entry's name.
        by: Arc<str>,
        /// The answer.
        reply: Box<Reply>,
    },
    /// A plugin wants the whole body, up to so many bytes, before anything goes on.
    Body {
        /// Its position in the chain.
        at: usize,
        /// The longest body.
        limit: u64,
    },
    /// A plugin panicked or failed, and the request must not go on without it.
    Failed(Broken),
}

/// A plugin panicked or failed whose `on_error` is `closed`. The request ends with 500; the plugin and
/// every other request go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin `{plugin}` failed")]
pub struct Broken {
    /// The entry's name.
    pub plugin: Arc<str>,
}

impl Chain {
    /// The chain of these entries.
    pub fn build(entries: &[Arc<Entry>]) -> Self {
        let positions = |wanted: &dyn Fn(&Entry) -> bool| {
            entries.iter().enumerate().filter(|(_, entry)| wanted(entry)).map(|(at, _)| at).collect()
        };
        let phase = |takes_part: fn(Phases) -> bool| positions(&|entry| takes_part(entry.phases()));
        // The phases of heads are also those in which conditions are evaluated.
        let judging = |takes_part: fn(Phases) -> bool, stage| {
            positions(&|entry| {
                takes_part(entry.phases()) || entry.when().is_some_and(|when| when.is_judged_at(stage))
            })
        };
        // A body in another coding is nothing to look into: who makes it so comes behind all the others.
        let codings_last = |mut positions: Positions| {
            positions.sort_by_key(|at| entries[*at].phases().encodes);
            positions
        };
        Self {
            entries: entries.into(),
            owned: owned_headers::of(entries),
            request: judging(|phases| phases.request_headers, ExpressionPhase::Request),
            request_body: phase(|phases| phases.request_body),
            response: codings_last(judging(|phases| phases.response_headers, ExpressionPhase::Response)),
            response_body: codings_last(phase(|phases| phases.response_body)),
            log: phase(|phases| phases.log),
            messages: [phase(|phases| phases.messages_to_backend), phase(|phases| phases.messages_to_client)],
            closed: phase(|phases| phases.closed),
            waits: entries.iter().any(|entry| entry.phases().waits),
        }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Whether a plugin may wait for something in a phase.
    pub fn may_wait(&self) -> bool {
        self.waits
    }

    /// Whether no plugin looks at requests or owns a field; then an [`moongate_sdk::Exchange`] need not even be made.
    pub fn skips_request_headers(&self) -> bool {
        self.request.is_empty() && self.owns_nothing()
    }

    /// Whether no plugin looks at answers.
    pub fn skips_response_headers(&self) -> bool {
        self.response.is_empty()
    }

    /// Whether no plugin looks at the end.
    pub fn skips_log(&self) -> bool {
        self.log.is_empty()
    }

    /// Whether a plugin that is not left out wants the request's body, among those from a position on.
    pub fn wants_request_body(&self, from: usize, running: &Running) -> bool {
        self.request_body.iter().any(|at| *at >= from && !running.skips_bodies(*at))
    }

    /// Whether a plugin that is not left out may make another body of the request's.
    pub fn may_change_request_body(&self, running: &Running) -> bool {
        let changes = |at: &usize| !self.entries[*at].phases().looks_only && !running.skips_bodies(*at);
        self.request_body.iter().any(changes)
    }

    /// Whether a plugin that is not left out wants the answer's body.
    pub fn wants_response_body(&self, running: &Running) -> bool {
        self.response_body.iter().any(|at| !running.skips_bodies(*at))
    }
}

#[cfg(test)]
mod tests;
