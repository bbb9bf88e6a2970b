//! The plugin chain of a route, and its plugin instances.
//!
//! The table of kinds is a parameter, so that a gateway with plugins of its own passes another table. Running
//! a chain allocates nothing and waits only when a plugin does.

mod background;
mod condition;
mod instance_cache;
pub mod kinds;
mod owned_headers;
mod panic_guard;
mod phases;
mod websocket;

pub use instance_cache::{Builder, Entry, Instance, Instances};
pub use panic_guard::CaughtFuture;
pub use websocket::{ChainVerdict, RecheckVerdict};

use moongate_expr::ExpressionPhase;
use moongate_sdk::{Phases, Reply, RequestState};
use std::sync::Arc;

/// The plugins of one route in configured order: global ones first, then the route's own. For responses,
/// plugins that encode bodies come last.
#[derive(Debug, Default)]
pub struct Chain {
    entries: Box<[Arc<Entry>]>,
    owned: Box<[owned_headers::OwnedFields]>,
    request: Positions,
    request_body: Positions,
    response: Positions,
    response_body: Positions,
    log: Positions,
    /// By direction: to the backend, to the client.
    messages: [Positions; 2],
    closed: Positions,
    waits: bool,
}

/// Positions of the plugins of a phase, in order.
type Positions = Box<[usize]>;

/// The chain's decision about a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward the request.
    Continue,
    /// Send this response.
    Respond {
        /// The position in the chain of the plugin that responded.
        at: usize,
        /// The name of that entry.
        by: Arc<str>,
        /// The response.
        reply: Box<Reply>,
    },
    /// Buffer the whole body, up to a limit in bytes, for a plugin before continuing.
    Body {
        /// The plugin's position in the chain.
        at: usize,
        /// The maximum size of the body.
        limit: u64,
    },
    /// A plugin panicked or failed, and its `on_error` is `closed`.
    Failed(PluginFailure),
}

/// A plugin with `on_error: closed` panicked or failed. The request ends with 500; other requests are not
/// affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` failed")]
pub struct PluginFailure {
    /// The name of the entry.
    pub plugin: Arc<str>,
}

impl Chain {
    /// Builds the chain of these entries.
    pub fn build(entries: &[Arc<Entry>]) -> Self {
        let positions = |wanted: &dyn Fn(&Entry) -> bool| {
            entries.iter().enumerate().filter(|(_, entry)| wanted(entry)).map(|(at, _)| at).collect()
        };
        let phase = |takes_part: fn(Phases) -> bool| positions(&|entry| takes_part(entry.phases()));
        // The header phases are also those in which conditions are evaluated.
        let judging = |takes_part: fn(Phases) -> bool, stage| {
            positions(&|entry| {
                takes_part(entry.phases()) || entry.when().is_some_and(|when| when.is_judged_at(stage))
            })
        };
        // Plugins cannot read an encoded body, so the plugins that encode come after all others.
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

    /// Returns whether a plugin may wait in a phase.
    pub fn may_wait(&self) -> bool {
        self.waits
    }

    /// Returns whether no plugin has request phases or owns a field, so that no [`moongate_sdk::Exchange`] is
    /// needed.
    pub fn skips_request_headers(&self) -> bool {
        self.request.is_empty() && self.owns_nothing()
    }

    /// Returns whether no plugin has response phases.
    pub fn skips_response_headers(&self) -> bool {
        self.response.is_empty()
    }

    /// Returns whether no plugin has the log phase.
    pub fn skips_log(&self) -> bool {
        self.log.is_empty()
    }

    /// Returns whether a plugin at or after `from` that is not skipped reads the request body.
    pub fn wants_request_body(&self, from: usize, running: &RequestState) -> bool {
        self.request_body.iter().any(|at| *at >= from && !running.skips_bodies(*at))
    }

    /// Returns whether a plugin that is not skipped may change the request body.
    pub fn may_change_request_body(&self, running: &RequestState) -> bool {
        let changes = |at: &usize| !self.entries[*at].phases().looks_only && !running.skips_bodies(*at);
        self.request_body.iter().any(changes)
    }

    /// Returns whether a plugin that is not skipped reads the response body.
    pub fn wants_response_body(&self, running: &RequestState) -> bool {
        self.response_body.iter().any(|at| !running.skips_bodies(*at))
    }
}

#[cfg(test)]
mod tests;
