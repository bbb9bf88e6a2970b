//! The `when` condition of a plugin entry, evaluated once per request before the entry's first phase and
//! stored for its other phases.
//!
//! An entry with response phases only is evaluated when the response header is received, and may read the
//! response. Any other entry is evaluated in `request_headers`, in chain order, so it sees the changes of
//! plugins before it. If a plugin responds before that, the condition is evaluated before the entry's next
//! phase.

use super::Chain;
use crate::config::PluginEntry;
use moongate_config::Problems;
use moongate_expr::{Expression, ExpressionPhase};
use moongate_sdk::{Exchange, Phases, Response};

/// When an entry runs.
#[derive(Debug)]
pub(super) struct Condition {
    expression: Expression,
    stage: ExpressionPhase,
}

impl Condition {
    /// The condition of an entry with these phases, if it has one.
    ///
    /// # Errors
    /// Every problem of the expression.
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

/// The state of an entry's condition in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The entry runs.
    Taken,
    /// The entry is skipped: it failed, or its condition is false.
    LeftOut,
    /// Its condition could not be evaluated.
    Unknown,
}

impl Chain {
    /// Returns whether a plugin runs for this request. Without a condition this costs two comparisons.
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
        // `Expression` counts and logs failed evaluations.
        let part = match expression.holds(&expression.facts(exchange, answer)) {
            Ok(true) => return Part::Taken,
            Ok(false) => Part::LeftOut,
            Err(_) => Part::Unknown,
        };
        exchange.running.skip(at);
        part
    }

    /// Returns whether a plugin is skipped in a phase that can no longer affect the request.
    pub(super) fn leaves_out(&self, at: usize, exchange: &mut Exchange<'_>) -> bool {
        self.part(at, exchange, None) != Part::Taken
    }
}
