//! The condition of an entry: evaluated once per request, when the entry's first turn has come, and
//! remembered for its other phases.
//!
//! An entry that takes part in answers alone is judged when the answer is here, and may look at it.
//! Any other is judged in `request_headers`, in its place among the plugins, so it sees what those before
//! it changed. An answer may come before that turn: then it is judged when its next phase comes.

use super::Chain;
use crate::config::PluginEntry;
use moongate_config::Problems;
use moongate_expr::{Expression, ExpressionPhase};
use moongate_sdk::{Exchange, Phases, Response};

/// When an entry takes part.
#[derive(Debug)]
pub(super) struct When {
    expression: Expression,
    stage: ExpressionPhase,
}

impl When {
    /// The condition of an entry that takes part in these phases, if it has one.
    ///
    /// # Errors
    /// Whatever is wrong with the expression.
    pub(super) fn read(written: &PluginEntry, phases: Phases) -> Result<Option<Self>, Problems> {
        let Some(when) = &written.when else { return Ok(None) };
        let stage =
            if is_of_answers_alone(phases) { ExpressionPhase::Response } else { ExpressionPhase::Request };
        Ok(Some(Self { expression: Expression::condition(when, stage)?, stage }))
    }

    /// Whether it is evaluated at this stage.
    pub(super) fn is_judged_at(&self, stage: ExpressionPhase) -> bool {
        self.stage == stage
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

/// What is known of an entry's part in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It takes part.
    Taken,
    /// It is left out: it failed, or its condition does not hold.
    LeftOut,
    /// Its condition could not be evaluated.
    Unknown,
}

impl Chain {
    /// Whether a plugin takes part in this request. One without a condition costs two comparisons.
    pub(super) fn part(&self, at: usize, exchange: &mut Exchange<'_>, answer: Option<&Response<'_>>) -> Part {
        if exchange.running.skips(at) {
            return Part::LeftOut;
        }
        let Some(when) = self.entries[at].when() else { return Part::Taken };
        if exchange.running.is_judged(at) {
            return Part::Taken;
        }
        if when.stage == ExpressionPhase::Response && answer.is_none() {
            return Part::LeftOut;
        }
        exchange.running.judge(at);
        let expression = &when.expression;
        // The expression counts and logs one that cannot be evaluated.
        let part = match expression.holds(&expression.facts(exchange, answer)) {
            Ok(true) => return Part::Taken,
            Ok(false) => Part::LeftOut,
            Err(_) => Part::Unknown,
        };
        exchange.running.skip(at);
        part
    }

    /// Whether a plugin is left out where nothing can be decided about the request any more.
    pub(super) fn leaves_out(&self, at: usize, exchange: &mut Exchange<'_>) -> bool {
        self.part(at, exchange, None) != Part::Taken
    }
}
