//! Conditions of a rule other than host and path.

use super::{RequestMatch, ValuePattern, query};
use crate::config::PathParameters;
use http::{HeaderName, Method};
use moongate_expr::Expression;
use moongate_sdk::Fault;
use std::fmt;

/// Methods, listeners, headers, query parameters and an expression; an empty list matches any request.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) methods: Box<[Method]>,
    pub(super) listeners: Box<[String]>,
    pub(super) headers: Box<[(HeaderName, ValuePattern)]>,
    pub(super) query: Box<[(String, ValuePattern)]>,
    pub(super) when: Option<Expression>,
    /// The form of the path for the expression.
    pub(super) path_parameters: PathParameters,
}

/// The first failed condition.
pub(super) enum UnmetCondition<'a> {
    Method(&'a [Method]),
    Listener(&'a [String]),
    Header(&'a HeaderName, &'a ValuePattern),
    Query(&'a str, &'a ValuePattern),
    /// The expression is false or cannot be evaluated.
    When(&'a Expression, Option<Fault>),
}

impl Conditions {
    /// The number of conditions, for specificity.
    pub(super) fn count(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + usize::from(!self.listeners.is_empty())
            + self.headers.len()
            + self.query.len()
            + usize::from(self.when.is_some())
    }

    /// The first failed condition, tested in order of cost.
    pub(super) fn unmet(&self, head: &RequestMatch<'_>) -> Option<UnmetCondition<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(head.request.method) {
            return Some(UnmetCondition::Method(&self.methods));
        }
        if !self.listeners.is_empty() && !self.listeners.iter().any(|name| name == head.request.listener) {
            return Some(UnmetCondition::Listener(&self.listeners));
        }
        for (name, pattern) in &self.headers {
            if !head.headers.get_all(name).iter().any(|value| pattern.matches(value.as_bytes())) {
                return Some(UnmetCondition::Header(name, pattern));
            }
        }
        for (name, pattern) in &self.query {
            if !query::matches(head.request.query, name, pattern) {
                return Some(UnmetCondition::Query(name, pattern));
            }
        }
        let when = self.when.as_ref()?;
        match when.holds(&head.facts(self.path_parameters)) {
            Ok(true) => None,
            Ok(false) => Some(UnmetCondition::When(when, None)),
            Err(fault) => Some(UnmetCondition::When(when, Some(fault))),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.methods.is_empty() {
            parts.push(format!("method {}", list(&self.methods)));
        }
        if !self.listeners.is_empty() {
            parts.push(format!("listener {}", list(&self.listeners)));
        }
        parts.extend(self.headers.iter().map(|(name, pattern)| format!("header {name}: {pattern}")));
        parts.extend(self.query.iter().map(|(name, pattern)| format!("query {name}={pattern}")));
        parts.extend(self.when.iter().map(|when| format!("when `{when}`")));
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for UnmetCondition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(wanted) => write!(f, "the method is not {}", list(wanted)),
            Self::Listener(wanted) => write!(f, "the listener is not {}", list(wanted)),
            Self::Header(name, ValuePattern::Any) => write!(f, "header {name} is missing"),
            Self::Header(name, pattern) => write!(f, "no header {name} is `{pattern}`"),
            Self::Query(name, ValuePattern::Any) => write!(f, "query parameter {name} is missing"),
            Self::Query(name, pattern) => write!(f, "no query parameter {name} is `{pattern}`"),
            Self::When(when, None) => write!(f, "`{when}` is false"),
            Self::When(when, Some(fault)) => write!(f, "`{when}` cannot be evaluated: {fault}"),
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
