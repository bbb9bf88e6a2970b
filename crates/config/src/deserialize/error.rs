//! Errors of serde and of the readers of single values.

use super::serde_extensions;
use crate::{Problem, Problems};
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// The context that an error already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorContext {
    /// New; the value with the error is not known yet.
    Fresh,
    /// Recorded; the value has no further problems.
    Exhausted,
    /// Recorded; another pass may find more.
    Again,
}

/// An error on its way to the root.
#[derive(Debug)]
pub(crate) struct ReadError {
    problems: Problems,
    missing: Option<&'static str>,
    context: ErrorContext,
}

impl ReadError {
    pub(crate) fn new(problem: Problem) -> Self {
        Self { problems: problem.into(), missing: None, context: ErrorContext::Fresh }
    }

    pub(crate) fn with_context(self, context: ErrorContext) -> Self {
        Self { context, ..self }
    }

    pub(crate) fn context(&self) -> ErrorContext {
        self.context
    }

    /// The missing key, for an error of that kind.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.missing
    }

    /// Whether another pass may find more.
    pub(crate) fn again(&self) -> bool {
        self.context == ErrorContext::Again
    }

    pub(crate) fn problems_mut(&mut self) -> &mut Problems {
        &mut self.problems
    }

    pub(crate) fn into_problems(self) -> Problems {
        self.problems
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.0.first() {
            Some(problem) => problem.fmt(f),
            None => f.write_str("the value cannot be read"),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        match serde_extensions::raised() {
            Some(problems) => Self { problems, missing: None, context: ErrorContext::Fresh },
            None => Self::new(Problem::new(message.to_string())),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::new(format!("expected {expected}, found {found}")))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unsigned(number) => format!("`{number}`"),
            Unexpected::Signed(number) => format!("`{number}`"),
            Unexpected::Float(number) => format!("`{number}`"),
            Unexpected::Str(text) => format!("`{text}`"),
            other => other.to_string(),
        };
        let expected = match expected.to_string() {
            text if text.starts_with("a nonzero u") => "at least 1".to_owned(),
            text => format!("expected {text}"),
        };
        Self::new(Problem::new(format!("{found} is out of range")).label(expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let problem =
            Problem::new(format!("unknown value `{variant}`")).suggest(variant, expected.iter().copied());
        Self::new(problem.help(format!("known: {}", expected.join(", "))))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown_key(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(Problem::new(format!("missing key `{field}`"))) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Problem::new(format!("duplicate key `{field}`")))
    }
}

/// Former keys with their replacement.
const REPLACED: [(&str, &str); 1] =
    [("ipv6_prefix", "use `server.client_ipv6_prefix`, which applies to every limit and key")];

/// An unknown key. Without a similar name, the problem lists all known keys.
pub(crate) fn unknown_key(key: &str, known: &'static [&'static str]) -> Problem {
    if let Some((_, instead)) = REPLACED.iter().find(|(replaced, _)| *replaced == key) {
        return Problem::new(format!("unknown key `{key}`")).help(*instead);
    }
    let problem = Problem::new(format!("unknown key `{key}`")).suggest(key, known.iter().copied());
    match (&problem.label, known) {
        (None, []) => problem.help("no keys are allowed here"),
        (None, _) => problem.help(format!("known keys: {}", known.join(", "))),
        (Some(_), _) => problem,
    }
}
