//! The ordered plugins of one route, and the instances behind them.
//!
//! What plugins do stays in their crates, and which kinds exist is a parameter: a gateway with plugins of
//! its own passes another table. Running a chain allocates nothing and waits only when a plugin does.

mod beside;
mod guard;
mod instances;

pub use guard::Guarded;
pub use instances::{Builder, Entry, Instances};

use guard::guard;
use http::StatusCode;
use moongate_sdk::{Answer, Exchange, Fault, Flow, Phases, Reply, Verdict};
use std::sync::Arc;

/// The plugins of one route in the order written: those of every route first, then its own.
#[derive(Debug, Default)]
pub struct Chain {
    entries: Box<[Arc<Entry>]>,
    request: Phase,
    response: Phase,
    log: Phase,
}

/// A plugin asked for a body where there is none to ask for.
const MISPLACED: Fault = Fault::fixed("it asked for the request's body behind the answer");

/// Positions of the plugins that take part in a phase, in order.
type Phase = Box<[usize]>;

/// What the plugins decided about a request.
#[derive(Debug)]
pub enum Decision {
    /// On to a backend.
    Continue,
    /// This is the answer.
    Respond {
        /// The name of the entry that made it.
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
    /// A plugin panicked or failed; nothing it should have checked is known.
    Failed(Broken),
}

/// A plugin panicked or failed. The request ends with 500; the plugin and every other request go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin `{plugin}` failed")]
pub struct Broken {
    /// The entry's name.
    pub plugin: Arc<str>,
}

impl Chain {
    /// The chain of these entries.
    pub fn build(entries: &[Arc<Entry>]) -> Self {
        let phase = |takes_part: fn(Phases) -> bool| {
            entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| takes_part(entry.phases()))
                .map(|(at, _)| at)
                .collect()
        };
        Self {
            entries: entries.into(),
            request: phase(|phases| phases.request_headers),
            response: phase(|phases| phases.response_headers),
            log: phase(|phases| phases.log),
        }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Whether no plugin looks at requests; then an [`Exchange`] need not even be made.
    pub fn skips_request_headers(&self) -> bool {
        self.request.is_empty()
    }

    /// Whether no plugin looks at answers.
    pub fn skips_response_headers(&self) -> bool {
        self.response.is_empty()
    }

    /// Whether no plugin looks at the end.
    pub fn skips_log(&self) -> bool {
        self.log.is_empty()
    }

    /// Shows the request's head to the plugins, until one answers.
    pub async fn request_headers(&self, exchange: &mut Exchange<'_>) -> Decision {
        for at in &self.request {
            let entry = &self.entries[*at];
            exchange.running.turn(*at);
            let flow = guard(|| entry.plugin().request_headers(exchange));
            if let Some(Flow::Continue) = flow {
                continue;
            }
            let decision = match settle(flow).await {
                Ok(Verdict::Continue) => continue,
                Ok(Verdict::Respond(reply)) => Decision::Respond { by: entry.name().clone(), reply },
                Ok(Verdict::Body(limit)) => Decision::Body { at: *at, limit },
                Ok(Verdict::Failed(fault)) => Decision::Failed(entry.failed(Some(&fault))),
                Err(Panicked) => Decision::Failed(entry.failed(None)),
            };
            return decision;
        }
        Decision::Continue
    }

    /// Shows the answer's head to the plugins, until one answers in its place.
    pub async fn response_headers(&self, exchange: &mut Exchange<'_>, answer: &mut Answer<'_>) -> Decision {
        for at in &self.response {
            let entry = &self.entries[*at];
            exchange.running.turn(*at);
            let flow = guard(|| entry.plugin().response_headers(exchange, answer));
            if let Some(Flow::Continue) = flow {
                continue;
            }
            let decision = match settle(flow).await {
                Ok(Verdict::Continue) => continue,
                Ok(Verdict::Respond(reply)) => Decision::Respond { by: entry.name().clone(), reply },
                Ok(Verdict::Body(_)) => Decision::Failed(entry.failed(Some(&MISPLACED))),
                Ok(Verdict::Failed(fault)) => Decision::Failed(entry.failed(Some(&fault))),
                Err(Panicked) => Decision::Failed(entry.failed(None)),
            };
            return decision;
        }
        Decision::Continue
    }

    /// Tells the plugins that the exchange is over. A panic of one is logged, and the next is told.
    pub fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        for at in &self.log {
            let entry = &self.entries[*at];
            exchange.running.turn(*at);
            if guard(|| entry.plugin().log(exchange, status)).is_none() {
                entry.failed(None);
            }
        }
    }
}

/// A plugin panicked.
struct Panicked;

/// Waits for what the plugin decides.
async fn settle(flow: Option<Flow<'_>>) -> Result<Verdict, Panicked> {
    Ok(match flow.ok_or(Panicked)? {
        Flow::Continue => Verdict::Continue,
        Flow::Respond(reply) => Verdict::Respond(reply),
        Flow::Body(limit) => Verdict::Body(limit),
        Flow::Failed(fault) => Verdict::Failed(fault),
        Flow::Wait(future) => Guarded(future).await.ok_or(Panicked)?,
    })
}

#[cfg(test)]
mod tests;
