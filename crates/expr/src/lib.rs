//! Conditions and values in the Common Expression Language (CEL), compiled with the configuration.
//!
//! The `cel` crate parses and evaluates. In between, `lower` checks every name and type that can be known, bounds
//! the cost, and replaces each input by a slot. A compiled expression therefore looks nothing up by name, and
//! nothing of a request is copied before it is read. The owner of an expression decides the effect of a failed
//! evaluation.

mod environment;
mod evaluation_input;
mod fields;
mod functions;
mod lower;
mod names;
mod parse;
mod slot;
mod template;

#[cfg(test)]
mod tests;

pub use crate::evaluation_input::Facts;
pub use template::Template;

use cel::common::types::{CelBool, CelDouble, CelInt, CelString, CelUInt};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, IdedExpr, Value};
use moongate_config::{Placed, Problems};
use moongate_sdk::{Exchange, Fault, Response};
use slot::Slot;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The phase in which an expression is evaluated, and so what it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressionPhase {
    /// During routing: there is no `request.route`, no `request.id` and no response yet.
    Route,
    /// During the choice of an endpoint by key: only the client's request and address.
    Key,
    /// After routing and before the response.
    Request,
    /// After the response head.
    Response,
}

/// A condition or a value, ready for evaluation. Clones share it.
#[derive(Clone)]
pub struct Expression(Arc<Program>);

struct Program {
    source: Box<str>,
    root: IdedExpr,
    slots: Box<[Slot]>,
    asks_id: bool,
}

/// The number of failed evaluations in this process.
static FAILURES: AtomicU64 = AtomicU64::new(0);

impl Expression {
    /// The longest source, in bytes.
    pub const SOURCE_MAX: usize = 4096;

    /// Compiles a condition.
    ///
    /// # Errors
    /// A syntax error, an unknown or not yet available name, a function or an operator on the wrong type, a cost that
    /// may be too high, or a value that is not a boolean. Each problem has its line and column if the file contains the
    /// text unchanged.
    pub fn condition(text: &Placed<String>, phase: ExpressionPhase) -> Result<Self, Problems> {
        Self::compile(text, 0..text.len(), phase, lower::ExpressionKind::Condition)
    }

    /// Compiles a value: text, a number, `true` or `false`.
    ///
    /// # Errors
    /// As [`Expression::condition`].
    pub fn value(text: &Placed<String>, phase: ExpressionPhase) -> Result<Self, Problems> {
        Self::value_in(text, 0..text.len(), phase)
    }

    /// The same for a part of a text, in bytes; a part that does not end on characters is empty.
    ///
    /// # Errors
    /// As [`Expression::condition`], with the place in the whole text.
    pub fn value_in(
        text: &Placed<String>,
        part: Range<usize>,
        phase: ExpressionPhase,
    ) -> Result<Self, Problems> {
        Self::compile(text, part, phase, lower::ExpressionKind::Value)
    }

    fn compile(
        text: &Placed<String>,
        part: Range<usize>,
        phase: ExpressionPhase,
        kind: lower::ExpressionKind,
    ) -> Result<Self, Problems> {
        let source = text.get(part.clone()).unwrap_or_default();
        let lowered = parse::with(text, part, move |parsed| lower::lower(parsed, phase, kind))?;
        Ok(Self(Arc::new(Program {
            source: source.into(),
            root: lowered.root,
            slots: lowered.slots.into(),
            asks_id: lowered.asks_id,
        })))
    }

    /// Evaluates the condition.
    ///
    /// # Errors
    /// The evaluation fails, as for `int("x") > 1`. The failure is counted and logged at debug level.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Fault> {
        self.evaluate(facts, |value| value.downcast_ref::<CelBool>().map(|truth| *truth.inner()))
    }

    /// Evaluates the value as text.
    ///
    /// # Errors
    /// The evaluation fails, or the value is neither text nor a number nor a boolean. The failure is counted and
    /// logged at debug level.
    pub fn render(&self, facts: &Facts<'_>) -> Result<String, Fault> {
        self.evaluate(facts, text_of)
    }

    /// Whether the condition is true for a request; false if the evaluation fails.
    pub fn test(&self, exchange: &mut Exchange<'_>) -> bool {
        self.holds(&self.facts(exchange, None)).unwrap_or(false)
    }

    /// The value for a request; `None` if the evaluation fails.
    pub fn text(&self, exchange: &mut Exchange<'_>) -> Option<String> {
        self.render(&self.facts(exchange, None)).ok()
    }

    /// The inputs from a request and its response, if any. The request's ID is generated when an expression first
    /// reads it.
    pub fn facts<'x>(&self, exchange: &'x mut Exchange<'_>, response: Option<&'x Response<'_>>) -> Facts<'x> {
        if self.0.asks_id {
            exchange.request_id();
        }
        Facts::of(exchange, response)
    }

    /// The source text.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The number of failed evaluations of all expressions since the process started.
    pub fn failures() -> u64 {
        FAILURES.load(Ordering::Relaxed)
    }

    fn evaluate<T>(
        &self,
        facts: &Facts<'_>,
        read: impl FnOnce(&CowVal<'_, '_>) -> Option<T>,
    ) -> Result<T, Fault> {
        let run = || {
            let reader = SlotResolver { slots: &self.0.slots, facts };
            let mut context = Context::with_env(Arc::clone(&environment::ENVIRONMENT));
            context.set_variable_resolver(&reader);
            let value = Value::resolve_val(&self.0.root, &context)?;
            read(&value).ok_or_else(|| ExecutionError::UnexpectedType {
                got: value.get_type().name().to_owned(),
                want: "another type".to_owned(),
            })
        };
        // The evaluator is a third-party crate: a panic in it must cost no more than an error.
        let error = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Fault::new(error.to_string()),
            Err(_) => Fault::fixed("the evaluation panicked"),
        };
        FAILURES.fetch_add(1, Ordering::Relaxed);
        log::debug!(expression = self.source(), error:% = error; "expression evaluation failed");
        Err(error)
    }
}

/// A value in the form for a field, a key or a metric.
fn text_of(value: &CowVal<'_, '_>) -> Option<String> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Some(text.inner().to_owned());
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return Some(number.inner().to_string());
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return Some(number.inner().to_string());
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        return Some(number.inner().to_string());
    }
    value.downcast_ref::<CelBool>().map(|truth| truth.inner().to_string())
}

/// Resolves the evaluator's variables: the slots, by number.
struct SlotResolver<'a> {
    slots: &'a [Slot],
    facts: &'a Facts<'a>,
}

impl VariableResolver for SlotResolver<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let slot = self.slots.get(slot::number(name)?)?;
        Some(slot.read(self.facts))
    }
}

/// Expressions are equal if their source is.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}
impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source()).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source())
    }
}
