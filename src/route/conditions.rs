//! What a rule asks of a request beside host and path.

use super::{Head, ValuePattern, query};
use http::{HeaderName, Method};
use std::fmt;

/// Methods, listeners, headers and query parameters; an empty list asks nothing.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) methods: Box<[Method]>,
    pub(super) listeners: Box<[String]>,
    pub(super) headers: Box<[(HeaderName, ValuePattern)]>,
    pub(super) query: Box<[(String, ValuePattern)]>,
}

/// The first condition a request does not meet.
pub(super) enum Unmet<'a> {
    Method(&'a [Method]),
    Listener(&'a [String]),
    Header(&'a HeaderName, &'a ValuePattern),
    Query(&'a str, &'a ValuePattern),
}

impl Conditions {
    /// How many there are, for specificity.
    pub(super) fn count(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + usize::from(!self.listeners.is_empty())
            + self.headers.len()
            + self.query.len()
    }

    /// The first that the request does not meet, cheapest first.
    pub(super) fn unmet(&self, head: &Head<'_>) -> Option<Unmet<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(head.method) {
            return Some(Unmet::Method(&self.methods));
        }
        if !self.listeners.is_empty() && !self.listeners.iter().any(|name| name == head.listener) {
            return Some(Unmet::Listener(&self.listeners));
        }
        for (name, pattern) in &self.headers {
            if !head.headers.get_all(name).iter().any(|value| pattern.matches(value.as_bytes())) {
                return Some(Unmet::Header(name, pattern));
            }
        }
        let unmet = self.query.iter().find(|(name, pattern)| !query::matches(head.query, name, pattern));
        unmet.map(|(name, pattern)| Unmet::Query(name, pattern))
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
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(wanted) => write!(f, "the method is not {}", list(wanted)),
            Self::Listener(wanted) => write!(f, "the listener is not {}", list(wanted)),
            Self::Header(name, ValuePattern::Any) => write!(f, "there is no header {name}"),
            Self::Header(name, pattern) => write!(f, "no header {name} is `{pattern}`"),
            Self::Query(name, ValuePattern::Any) => write!(f, "there is no query parameter {name}"),
            Self::Query(name, pattern) => write!(f, "no query parameter {name} is `{pattern}`"),
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
