//! Route table: rules by host, then by path, tried from the most specific to the least.

use super::conditions::Conditions;
use super::host::NormalizedHost;
use super::prefix_tree::{NodeId, Tree};
use super::{HostPattern, PathPattern, RequestMatch, Rule};
use crate::config::PathParameters;
use foldhash::fast::RandomState;
use regex::Regex;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Rules compiled for lookups. Immutable: a reload builds another table.
#[derive(Debug)]
pub struct Table<R> {
    pub(super) rules: Vec<StoredRoute<R>>,
    exact: HashMap<Box<str>, Paths, RandomState>,
    /// By suffix, with its leading dot.
    under: HashMap<Box<str>, Paths, RandomState>,
    /// Dots of the longest suffix, so that a host with a hundred labels does not cost a hundred lookups.
    most_dots: usize,
    /// By prefix, with its final dot.
    before: HashMap<Box<str>, Paths, RandomState>,
    /// Dots of the longest prefix.
    most_dots_before: usize,
    /// In the order of the configuration.
    regexes: Vec<(Regex, Paths)>,
    any: Paths,
    tree: Tree,
}

/// A rule without the parts that the structure of the table implies.
#[derive(Debug)]
pub(super) struct StoredRoute<R> {
    pub(super) name: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) paths: Vec<PathPattern>,
    pub(super) conditions: Conditions,
    target: R,
}

/// The rules of one host.
#[derive(Debug)]
struct Paths {
    exact: HashMap<Box<str>, Vec<u32>, RandomState>,
    regexes: Vec<(u32, Regex)>,
    root: NodeId,
    any: Vec<u32>,
}

/// A rule whose host and path match, with the kinds of match.
pub(super) struct Candidate<'t> {
    pub(super) rule: usize,
    pub(super) host: HostMatch<'t>,
    pub(super) path: PathMatch<'t>,
}

/// The kind of a host match; a later variant is less specific.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HostMatch<'t> {
    Exact,
    Under(&'t str),
    Before(&'t str),
    Regex(&'t str),
    Any,
}

/// The kind of a path match; a later variant is less specific.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PathMatch<'t> {
    Exact,
    Regex(&'t str),
    Prefix(&'t str),
    Any,
}

impl PathMatch<'_> {
    /// The rank among path matches; less is more specific.
    fn rank(self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact => (0, Reverse(0)),
            Self::Regex(_) => (1, Reverse(0)),
            Self::Prefix(prefix) => (2, Reverse(prefix.len())),
            Self::Any => (3, Reverse(0)),
        }
    }
}

impl<R> Table<R> {
    /// Builds the table. A rule with several hosts and paths has an entry for each, with the specificity of
    /// that host and path.
    pub fn build(rules: Vec<Rule<R>>) -> Self {
        let mut tree = Tree::default();
        let any = Paths::new(&mut tree);
        let mut table = Self {
            rules: Vec::with_capacity(rules.len()),
            exact: HashMap::default(),
            under: HashMap::default(),
            most_dots: 0,
            before: HashMap::default(),
            most_dots_before: 0,
            regexes: Vec::new(),
            any,
            tree,
        };
        for (rule, index) in rules.into_iter().zip(0..) {
            table.add(rule, index);
        }
        table.finish();
        table
    }

    /// The target of the most specific matching rule. Only an expression may allocate.
    pub fn find(&self, head: &RequestMatch<'_>) -> Option<&R> {
        let found = self.walk(head, |candidate| {
            let rule = &self.rules[candidate.rule];
            match rule.conditions.unmet(head) {
                None => ControlFlow::Break(&rule.target),
                Some(_) => ControlFlow::Continue(()),
            }
        });
        found.break_value()
    }

    /// All targets, in the order of the rules.
    pub fn targets(&self) -> impl Iterator<Item = &R> {
        self.rules.iter().map(|rule| &rule.target)
    }

    /// Visits the rules whose host and path match, from the most specific to the least. Lookup and
    /// explanation share this walk, so that they cannot disagree.
    pub(super) fn walk<'t, B>(
        &'t self,
        head: &RequestMatch<'_>,
        mut visit: impl FnMut(Candidate<'t>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut folded = NormalizedHost::new();
        if let Some(host) = head.host().and_then(|host| folded.fold(host)) {
            if let Some(paths) = self.exact.get(host) {
                self.walk_paths(paths, HostMatch::Exact, head, &mut visit)?;
            }
            for (suffix, paths) in self.wildcards(host) {
                self.walk_paths(paths, HostMatch::Under(suffix), head, &mut visit)?;
            }
            for (prefix, paths) in self.wildcards_at_end(host) {
                self.walk_paths(paths, HostMatch::Before(prefix), head, &mut visit)?;
            }
            for (regex, paths) in &self.regexes {
                if regex.is_match(host) {
                    self.walk_paths(paths, HostMatch::Regex(regex.as_str()), head, &mut visit)?;
                }
            }
        }
        self.walk_paths(&self.any, HostMatch::Any, head, &mut visit)
    }

    /// The wildcards that match a host, longest first.
    fn wildcards<'s>(&'s self, host: &str) -> impl Iterator<Item = (&'s str, &'s Paths)> {
        let dots = if self.most_dots == 0 { 0 } else { host.bytes().filter(|byte| *byte == b'.').count() };
        let skipped = dots.saturating_sub(self.most_dots);
        let suffixes = host.match_indices('.').skip(skipped).take(dots - skipped);
        // The first label is not empty: `*.example.com` does not match `.example.com`.
        suffixes.filter(|(at, _)| *at > 0).filter_map(|(at, _)| {
            self.under.get_key_value(&host[at..]).map(|(suffix, paths)| (&**suffix, paths))
        })
    }

    /// The wildcards for the end of a host that match it, longest first.
    fn wildcards_at_end<'s>(&'s self, host: &str) -> impl Iterator<Item = (&'s str, &'s Paths)> {
        let most = self.most_dots_before;
        let dots = if most == 0 { 0 } else { host.bytes().filter(|byte| *byte == b'.').count() };
        let prefixes = host.rmatch_indices('.').skip(dots.saturating_sub(most)).take(dots.min(most));
        // The last label is not empty: `www.example.*` does not match `www.example.`.
        prefixes.filter(|(at, _)| at + 1 < host.len()).filter_map(|(at, _)| {
            self.before.get_key_value(&host[..=at]).map(|(prefix, paths)| (&**prefix, paths))
        })
    }

    /// Visits the rules of a host whose path matches. Each rule reads its own form of the path; usually there
    /// is only one.
    fn walk_paths<'t, B>(
        &'t self,
        paths: &'t Paths,
        host: HostMatch<'t>,
        head: &RequestMatch<'_>,
        visit: &mut impl FnMut(Candidate<'t>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !head.has_parameters() {
            return self.walk_path(paths, host, head.request.path, visit);
        }
        let mut found = Vec::new();
        for (path, keeps) in [(head.path_with_parameters, true), (head.request.path, false)] {
            let all: ControlFlow<()> = self.walk_path(paths, host, path, &mut |candidate| {
                if (self.path_parameters(candidate.rule) == PathParameters::Keep) == keeps {
                    found.push(candidate);
                }
                ControlFlow::Continue(())
            });
            debug_assert!(all.is_continue(), "this walk does not end early");
        }
        // The order of `walk_path`, over both lists.
        found.sort_by_key(|candidate| (candidate.path.rank(), self.key(candidate.rule)));
        found.into_iter().try_for_each(visit)
    }

    fn walk_path<'t, B>(
        &'t self,
        paths: &'t Paths,
        host: HostMatch<'t>,
        path: &str,
        visit: &mut impl FnMut(Candidate<'t>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut each = |rules: &[u32], path: PathMatch<'t>| {
            rules.iter().try_for_each(|rule| visit(Candidate { rule: *rule as usize, host, path }))
        };
        if let Some(rules) = paths.exact.get(path) {
            each(rules, PathMatch::Exact)?;
        }
        for (rule, regex) in &paths.regexes {
            if regex.is_match(path) {
                each(&[*rule], PathMatch::Regex(regex.as_str()))?;
            }
        }
        for prefix in self.tree.prefixes(paths.root, path) {
            each(prefix.rules, PathMatch::Prefix(prefix.text))?;
        }
        each(&paths.any, PathMatch::Any)
    }

    fn add(&mut self, rule: Rule<R>, index: u32) {
        for host in &rule.hosts {
            let dots = |name: &str| name.bytes().filter(|byte| *byte == b'.').count();
            let (hosts, name) = match host {
                HostPattern::Exact(name) => (&mut self.exact, name),
                HostPattern::Under(suffix) => {
                    self.most_dots = self.most_dots.max(dots(suffix));
                    (&mut self.under, suffix)
                }
                HostPattern::Before(prefix) => {
                    self.most_dots_before = self.most_dots_before.max(dots(prefix));
                    (&mut self.before, prefix)
                }
                HostPattern::Regex(regex) => {
                    self.add_regex(regex, &rule.paths, index);
                    continue;
                }
            };
            let tree = &mut self.tree;
            let paths = hosts.entry(name.clone()).or_insert_with(|| Paths::new(tree));
            paths.add(&rule.paths, index, &mut self.tree);
        }
        if rule.hosts.is_empty() {
            self.any.add(&rule.paths, index, &mut self.tree);
        }
        self.rules.push(StoredRoute {
            name: rule.name,
            hosts: rule.hosts,
            paths: rule.paths,
            conditions: Conditions {
                methods: rule.methods.into(),
                listeners: rule.listeners.into(),
                headers: rule.headers.into(),
                query: rule.query.into(),
                when: rule.when,
                path_parameters: rule.path_parameters,
            },
            target: rule.target,
        });
    }

    /// Adds a rule to those of an equal regex.
    fn add_regex(&mut self, regex: &Regex, paths: &[PathPattern], index: u32) {
        let known = self.regexes.iter().position(|(known, _)| known.as_str() == regex.as_str());
        let at = known.unwrap_or_else(|| {
            self.regexes.push((regex.clone(), Paths::new(&mut self.tree)));
            self.regexes.len() - 1
        });
        self.regexes[at].1.add(paths, index, &mut self.tree);
    }

    /// The form of the path that a rule reads.
    pub(super) fn path_parameters(&self, rule: usize) -> PathParameters {
        self.rules[rule].conditions.path_parameters
    }

    /// The order of rules with equal host and path: more conditions first, then the order of the
    /// configuration.
    fn key(&self, rule: usize) -> (Reverse<usize>, usize) {
        (Reverse(self.rules[rule].conditions.count()), rule)
    }

    /// Sorts rules with equal host and path.
    fn finish(&mut self) {
        let rules = &self.rules;
        let key = |rule: &u32| (Reverse(rules[*rule as usize].conditions.count()), *rule);
        let order = |list: &mut Vec<u32>| {
            list.sort_unstable_by_key(key);
            list.dedup();
        };
        let hosts =
            [&mut self.exact, &mut self.under, &mut self.before].into_iter().flat_map(HashMap::values_mut);
        let regexes = self.regexes.iter_mut().map(|(_, paths)| paths);
        for paths in hosts.chain(regexes).chain([&mut self.any]) {
            paths.exact.values_mut().for_each(order);
            paths.regexes.sort_by_key(|(rule, _)| key(rule));
            order(&mut paths.any);
        }
        self.tree.finish(order);
    }
}

impl Paths {
    fn new(tree: &mut Tree) -> Self {
        Self { exact: HashMap::default(), regexes: Vec::new(), root: tree.root(), any: Vec::new() }
    }

    fn add(&mut self, patterns: &[PathPattern], rule: u32, tree: &mut Tree) {
        for pattern in patterns {
            match pattern {
                PathPattern::Exact(path) => self.exact.entry(path.clone()).or_default().push(rule),
                PathPattern::Regex(regex) => self.regexes.push((rule, regex.clone())),
                PathPattern::Prefix(prefix) => tree.add(self.root, prefix, rule),
            }
        }
        if patterns.is_empty() {
            self.any.push(rule);
        }
    }
}
