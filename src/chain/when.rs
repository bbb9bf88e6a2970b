//! The condition of an entry: evaluated once per request, when the entry's first turn has come, and
//! remembered for its other phases.
//!
//! An entry that takes part in answers alone is judged when the answer is here, and may look at it.
//! Any other is judged in `request_headers`, in its place among the plugins, so it sees what those before
//! it changed. An answer may come before that turn: then it is judged when its next phase comes.

use super::{Chain, Entry};
use crate::spec::PluginEntry;
use moongate_sdk::{Answer, Exchange, Expression, Phases, Problems, Stage};

/// When an entry takes part.
#[derive(Debug)]
pub(super) struct When {
    expression: Expression,
    stage: Stage,
}

impl When {
    /// The condition of an entry that takes part in these phases, if it has one.
    ///
    /// # Errors
    /// Whatever is wrong with the expression.
    pub(super) fn read(written: &PluginEntry, phases: Phases) -> Result<Option<Self>, Problems> {
        let Some(when) = &written.when else { return Ok(None) };
        let stage = if is_of_answers_alone(phases) { Stage::Response } else { Stage::Request };
        Ok(Some(Self { expression: Expression::condition(when, stage)?, stage }))
    }
}

fn is_of_answers_alone(phases: Phases) -> bool {
    let of_requests = phases.request_headers
        || phases.request_body
        || phases.messages_to_backend
        || phases.messages_to_client
        || phases.recheck.is_some()
        || phases.closed;
    !of_requests && (phases.response_headers || phases.response_body)
}

impl Entry {
    /// Whether its condition is evaluated at this stage.
    pub(super) fn is_judged_at(&self, stage: Stage) -> bool {
        self.when().is_some_and(|when| when.stage == stage)
    }
}

impl Chain {
    /// Whether a plugin is left out of this request: because it failed, or because its condition does not
    /// hold. One without a condition costs two comparisons.
    pub(super) fn leaves_out(
        &self,
        at: usize,
        exchange: &mut Exchange<'_>,
        answer: Option<&Answer<'_>>,
    ) -> bool {
        if exchange.running.skips(at) {
            return true;
        }
        let Some(when) = self.entries[at].when() else { return false };
        if exchange.running.is_judged(at) {
            return false;
        }
        if when.stage == Stage::Response && answer.is_none() {
            return true;
        }
        exchange.running.judge(at);
        let expression = &when.expression;
        // One that cannot be evaluated does not hold; the expression has counted and logged it.
        let holds = expression.holds(&expression.facts(exchange, answer)).unwrap_or(false);
        if !holds {
            exchange.running.skip(at);
        }
        !holds
    }
}
