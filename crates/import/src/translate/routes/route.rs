//! One route before it is written, and names of routes.

use super::super::Context;
use super::super::paths::LocationPath;
use super::super::proxy;
use super::super::upstreams::Upstreams;
use crate::cel::Variables;
use crate::cel_text::all_of;
use crate::names::UniqueNames;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};
use std::collections::BTreeSet;

/// What a route does with its requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Destination {
    /// Forwards them to the upstream with this number.
    Upstream(usize),
    /// Its plugins respond.
    Response,
}

/// A route before it is written.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) comments: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) listeners: Vec<String>,
    pub(super) path: Option<String>,
    /// The name of the path.
    path_name: String,
    pub(super) suffix: &'static str,
    pub(super) suffix_text: Option<String>,
    /// Conditions, all of which must hold.
    pub(super) when: Vec<String>,
    pub(super) destination: Destination,
    pub(super) access_log: bool,
    /// `timeout`, `websocket` and the like.
    pub(super) settings: Map,
    pub(super) plugins: Vec<Map>,
    /// Fields that the authentication service sets, with the variables that hold them.
    pub(super) copied_fields: Vec<(String, String)>,
}

impl Draft {
    pub(super) fn new(location: &LocationPath, path: Option<String>) -> Self {
        Self {
            name: String::new(),
            comments: Vec::new(),
            hosts: Vec::new(),
            listeners: Vec::new(),
            path,
            path_name: location.name(),
            suffix: "",
            suffix_text: None,
            when: Vec::new(),
            destination: Destination::Response,
            access_log: true,
            settings: Map::block(),
            plugins: Vec::new(),
            copied_fields: Vec::new(),
        }
    }

    /// Names the route by another path.
    pub(super) fn rename(&mut self, location: &LocationPath) {
        self.path_name = location.name();
    }

    /// Whether its path is a regular expression.
    pub(super) fn is_regex(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.starts_with('~'))
    }

    /// The route as YAML.
    pub(super) fn write(self, upstreams: &Upstreams<'_>) -> Map {
        let mut map = Map::block();
        for comment in self.comments {
            let lines = crate::wrapped(&comment);
            if !lines.iter().all(|line| map.comments.contains(line)) {
                map.comments.extend(lines);
            }
        }
        map.set("name", Yaml::text(self.name));
        if !self.hosts.is_empty() {
            map.set("host", Yaml::one_or_many(&self.hosts));
        }
        if let Some(path) = self.path {
            map.set("path", Yaml::text(path));
        }
        if !self.listeners.is_empty() {
            map.set("listeners", Yaml::texts(self.listeners));
        }
        if let Some(when) = all_of(&self.when) {
            map.set("when", Yaml::text(when));
        }
        if let Destination::Upstream(number) = self.destination {
            map.set("upstream", upstreams.reference(number));
        }
        map.append(self.settings);
        if !self.access_log {
            map.set("access_log", Yaml::word(&false));
        }
        if !self.plugins.is_empty() {
            map.set("plugins", Yaml::List(self.plugins.into_iter().map(Yaml::Map).collect()));
        }
        map
    }
}

/// The names of routes.
pub(super) struct Names {
    known: UniqueNames,
    has_servers: bool,
}

impl Names {
    /// Names with the host, if there are several servers.
    pub(super) fn new(has_servers: bool) -> Self {
        Self { known: UniqueNames::default(), has_servers }
    }

    /// A name that no other route has.
    pub(super) fn name(&mut self, host: Option<&str>, draft: &Draft) -> String {
        let path = draft.path_name.as_str();
        let host = host.unwrap_or("default");
        let mut words: Vec<&str> = Vec::new();
        if self.has_servers || path.is_empty() {
            words.push(host);
        }
        words.push(path);
        let only_redirects = draft.plugins.last().is_some_and(|plugin| plugin.kind() == "redirect");
        words.push(match draft.suffix {
            "" if only_redirects && draft.destination == Destination::Response => "redirect",
            suffix => suffix,
        });
        let suffix = draft.suffix_text.clone().unwrap_or_default();
        words.push(&suffix);
        words.retain(|word| !word.is_empty());
        let base: String = words
            .join("-")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        self.known.unique(base)
    }

    /// Another name, which is not among those either.
    pub(super) fn another(&mut self, name: &str, known: &BTreeSet<&str>) -> String {
        loop {
            let name = self.known.unique(name.to_owned());
            if !known.contains(name.as_str()) {
                return name;
            }
        }
    }
}

/// Keeps the order of regular expressions: one with `when` would win over an earlier one without.
pub(super) fn keep_order(drafts: &mut [Draft]) {
    if drafts.iter().any(|draft| draft.is_regex() && !draft.when.is_empty()) {
        for draft in drafts.iter_mut().filter(|draft| draft.is_regex() && draft.when.is_empty()) {
            draft.when.push("true".to_owned());
        }
    }
}

/// The settings of a route that forwards.
pub(super) fn proxy_settings(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    draft: &mut Draft,
    variables: &Variables<'_>,
) {
    proxy::timeouts(context, scope, &mut draft.settings);
    if let Some(directive) = scope.find("proxy_ignore_client_abort") {
        if directive.argument(0) == "on" {
            draft.settings.set("on_client_close", Yaml::text("finish"));
            context.notes.taken(directive, "`on_client_close: finish` of the route");
        } else {
            context.notes.implied(directive, "a request ends with its client");
        }
    }
    super::super::access::connection_limits(context, scope, variables, &mut draft.settings);
}
