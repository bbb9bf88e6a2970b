//! Unreachable rules: an earlier rule has the same conditions.

use super::Rule;
use crate::config::PathParameters;
use moongate_config::{Place, Problem};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;

/// An unreachable rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The rule's position.
    pub rule: usize,
    /// The position of the earlier rule that matches its requests.
    pub by: usize,
}

impl Shadowed {
    /// The warning. `by` is the earlier rule's name, `at` its place.
    pub fn problem(&self, by: &str, at: Option<&Place>) -> Problem {
        let problem =
            Problem::warning(format!("unreachable: `{by}` has the same conditions and comes first"));
        match at {
            Some(place) => problem.help(format!("`{by}` is at {}:{}", place.file, place.line)),
            None => problem,
        }
    }
}

/// The rules that have, for each host and path, an earlier rule with equal conditions.
pub fn shadowed<R>(rules: &[Rule<R>]) -> Vec<Shadowed> {
    let mut first = HashMap::new();
    let mut found = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut by = None;
        let mut reachable = false;
        for place in places(rule) {
            match first.entry(place) {
                Entry::Occupied(earlier) if *earlier.get() != index => by = by.or(Some(*earlier.get())),
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert(index);
                    reachable = true;
                }
            }
        }
        if let (Some(by), false) = (by, reachable) {
            found.push(Shadowed { rule: index, by });
        }
    }
    found
}

/// Every pair of host and path of the rule, with its conditions in normal form.
fn places<R>(rule: &Rule<R>) -> Vec<(String, String, Vec<String>)> {
    let conditions = conditions(rule);
    let paths = or_any(&rule.paths);
    let pair = |host: &String| {
        let (host, conditions) = (host.clone(), conditions.clone());
        paths.iter().map(move |path| (host.clone(), path.clone(), conditions.clone())).collect::<Vec<_>>()
    };
    or_any(&rule.hosts).iter().flat_map(pair).collect()
}

fn or_any(patterns: &[impl Display]) -> Vec<String> {
    match patterns {
        [] => vec![String::new()],
        patterns => patterns.iter().map(ToString::to_string).collect(),
    }
}

fn conditions<R>(rule: &Rule<R>) -> Vec<String> {
    let mut all: Vec<_> = rule.methods.iter().map(|method| format!("method {method}")).collect();
    all.extend(rule.listeners.iter().map(|listener| format!("listener {listener}")));
    all.extend(rule.headers.iter().map(|(name, pattern)| format!("header {name}: {pattern}")));
    all.extend(rule.query.iter().map(|(name, pattern)| format!("query {name}={pattern}")));
    all.extend(rule.when.iter().map(|when| format!("when {when}")));
    if rule.path_parameters == PathParameters::Keep {
        all.push("parameters".to_owned());
    }
    all.sort_unstable();
    all.dedup();
    all
}
