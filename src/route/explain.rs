//! Explanation of a route lookup, as `moongate check --explain` prints it.

use super::host::NormalizedHost;
use super::table::{Candidate, HostMatch, PathMatch};
use super::{RequestMatch, Table};
use std::fmt;
use std::ops::ControlFlow;

/// Losing rules that are printed; the others are counted.
const SHOWN: usize = 20;

/// The winner of a lookup, and the reasons against other rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The winner and its matching parts, the most significant first; `None` if no rule matches.
    pub winner: Option<MatchReason>,
    /// The losing rules of this host, most specific first, then those whose path does not match.
    pub others: Vec<Other>,
    /// The number of rules of other hosts.
    pub elsewhere: usize,
}

/// A matching rule, and its matching parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchReason {
    /// The rule's position in the table.
    pub rule: usize,
    /// The rule's name.
    pub name: String,
    /// Host, path and conditions, one phrase each.
    pub because: Vec<String>,
}

/// A losing rule, and the first reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The rule's position in the table.
    pub rule: usize,
    /// The rule's name.
    pub name: String,
    /// The reason, as one phrase.
    pub reason: String,
}

impl<R> Table<R> {
    /// Explains a lookup. Visits every rule and allocates, so it is not for the request path.
    pub fn explain(&self, head: &RequestMatch<'_>) -> Explanation {
        let mut winner: Option<Candidate<'_>> = None;
        let mut others = Vec::new();
        let mut seen = vec![false; self.rules.len()];
        let end: ControlFlow<()> = self.walk(head, |candidate| {
            let index = candidate.rule;
            if !std::mem::replace(&mut seen[index], true) {
                let unmet = self.rules[index].conditions.unmet(head).map(|unmet| unmet.to_string());
                match (unmet, &winner) {
                    (Some(reason), _) => others.push(self.other(index, reason)),
                    (None, Some(won)) => others.push(self.other(index, self.losing_reason(won, &candidate))),
                    (None, None) => winner = Some(candidate),
                }
            }
            ControlFlow::Continue(())
        });
        debug_assert!(end.is_continue(), "an explanation looks at every candidate");
        let elsewhere = self.unseen(head, &seen, &mut others);
        Explanation { winner: winner.map(|won| self.why(&won)), others, elsewhere }
    }

    /// Adds the rules of this host whose path does not match, and counts those of other hosts.
    fn unseen(&self, head: &RequestMatch<'_>, seen: &[bool], others: &mut Vec<Other>) -> usize {
        let mut normalized = NormalizedHost::new();
        let host = head.host().and_then(|host| normalized.fold(host));
        let mut elsewhere = 0;
        for (index, rule) in self.rules.iter().enumerate().filter(|(index, _)| !seen[*index]) {
            let here = host.is_some_and(|host| rule.hosts.iter().any(|pattern| pattern.matches(host)));
            if here || rule.hosts.is_empty() {
                let paths: Vec<_> = rule.paths.iter().map(|path| format!("`{path}`")).collect();
                others.push(self.other(index, format!("the path does not match {}", paths.join(" or "))));
            } else {
                elsewhere += 1;
            }
        }
        elsewhere
    }

    fn other(&self, rule: usize, reason: String) -> Other {
        Other { rule, name: self.rules[rule].name.clone(), reason }
    }

    /// The reason for which another matching rule lost.
    fn losing_reason(&self, won: &Candidate<'_>, lost: &Candidate<'_>) -> String {
        let count = |candidate: &Candidate<'_>| self.rules[candidate.rule].conditions.count();
        let what = if won.host != lost.host && is_regex(won.host) && is_regex(lost.host) {
            format!("the regex of its host comes later: {}", lost.host)
        } else if won.host != lost.host {
            format!("its host is less specific: {}", lost.host)
        } else if won.path != lost.path && !both_regex(won, lost) {
            format!("its path is less specific: {}", lost.path)
        } else if count(won) != count(lost) {
            "it has fewer conditions".to_owned()
        } else {
            "it comes later in the configuration".to_owned()
        };
        format!("it also matches, but {what}")
    }

    fn why(&self, won: &Candidate<'_>) -> MatchReason {
        let rule = &self.rules[won.rule];
        let mut because = vec![won.host.to_string(), won.path.to_string()];
        if rule.conditions.count() > 0 {
            because.push(rule.conditions.to_string());
        }
        MatchReason { rule: won.rule, name: rule.name.clone(), because }
    }
}

fn is_regex(host: HostMatch<'_>) -> bool {
    matches!(host, HostMatch::Regex(_))
}

fn both_regex(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    matches!((a.path, b.path), (PathMatch::Regex(_), PathMatch::Regex(_)))
}

impl fmt::Display for HostMatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact host"),
            Self::Under(suffix) => write!(f, "host *{suffix}"),
            Self::Before(prefix) => write!(f, "host {prefix}*"),
            Self::Regex(regex) => write!(f, "host ~{regex}"),
            Self::Any => f.write_str("any host"),
        }
    }
}

impl fmt::Display for PathMatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact path"),
            Self::Regex(regex) => write!(f, "path ~{regex}"),
            Self::Prefix("") => f.write_str("prefix /"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Any => f.write_str("any path"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.winner {
            Some(why) => writeln!(f, "{}: {}", why.name, why.because.join(", "))?,
            None => writeln!(f, "no route matches: 404")?,
        }
        for other in self.others.iter().take(SHOWN) {
            writeln!(f, "  not {}: {}", other.name, other.reason)?;
        }
        match self.others.len().saturating_sub(SHOWN) {
            0 => {}
            rest => writeln!(f, "  {rest} more routes of this host")?,
        }
        match self.elsewhere {
            0 => Ok(()),
            1 => writeln!(f, "  1 route is for another host"),
            n => writeln!(f, "  {n} routes are for other hosts"),
        }
    }
}
