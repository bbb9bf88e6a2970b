//! One route before it is written, and names of routes.

use super::super::Context;
use super::super::paths::LocationPath;
use super::super::proxy;
use super::super::upstreams::Upstreams;
use crate::cel::Variables;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};
use std::collections::BTreeSet;

/// Whether the plugin `rewrite` has `rewrite_cookie_domain`.
const COOKIE_DOMAINS: bool = false;

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
    pub(super) when: Option<String>,
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
            when: None,
            destination: Destination::Response,
            access_log: true,
            settings: Map::block(),
            plugins: Vec::new(),
            copied_fields: Vec::new(),
        }
    }

    /// The route as YAML.
    pub(super) fn write(self, upstreams: &Upstreams<'_>) -> Map {
        let mut map = Map::block();
        map.comments = self.comments;
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
        if let Some(when) = self.when {
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
    known: BTreeSet<String>,
    has_servers: bool,
}

impl Names {
    /// Names with the host, if there are several servers.
    pub(super) fn new(has_servers: bool) -> Self {
        Self { known: BTreeSet::new(), has_servers }
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
        let mut name = base.clone();
        let mut number = 2;
        while !self.known.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
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

/// Adds the plugin that changes the path, with what maps redirects and cookies back.
pub(super) fn map_back(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    plugin: Option<Map>,
    keeps_host: bool,
    draft: &mut Draft,
) {
    let has_prefix = plugin
        .as_ref()
        .is_some_and(|plugin| plugin.get("strip_prefix").is_some() || plugin.get("add_prefix").is_some());
    let mut plugin = plugin.unwrap_or_else(|| Map::default().with("kind", Yaml::text("rewrite")));
    let is_changed = plugin.get("replace").is_some() || has_prefix;
    let mut is_needed = is_changed;
    let redirects = scope.all("proxy_redirect");
    let help = "see `rewrite_location` of the plugin `rewrite`";
    for directive in &redirects {
        match directive.argument(0) {
            "off" => context.notes.implied(directive, "redirects are forwarded as they are"),
            "default" if !has_prefix => context.notes.implied(directive, "the path is not changed"),
            _ if has_prefix => {
                plugin.set("rewrite_location", Yaml::word(&true));
                context.notes.taken(directive, "`rewrite_location: true` of the plugin `rewrite`");
            }
            "http://" | "http://$host/" | "http://$http_host/" | "http:" => {
                context.notes.refused(
                    directive,
                    "the scheme of redirects is not changed",
                    "let the application read X-Forwarded-Proto",
                );
            }
            _ => context.notes.refused(
                directive,
                "redirects are mapped back only where a prefix is stripped or added",
                help,
            ),
        }
    }
    // nginx maps URLs of the backend back by default.
    if redirects.is_empty() && has_prefix && !keeps_host {
        plugin.set("rewrite_location", Yaml::word(&true));
    }
    for directive in scope.all("proxy_cookie_path") {
        if directive.argument(0) == "off" {
            context.notes.implied(directive, "cookies are forwarded as they are");
        } else if has_prefix {
            plugin.set("rewrite_cookie_path", Yaml::word(&true));
            context.notes.taken(directive, "`rewrite_cookie_path: true` of the plugin `rewrite`");
        } else {
            let why = "paths of cookies are mapped back only where a prefix is stripped or added";
            context.notes.refused(directive, why, "let the application set the path");
        }
    }
    is_needed |= cookie_domains(context, scope, &mut plugin);
    if is_needed || plugin.get("rewrite_location").is_some() {
        draft.plugins.push(plugin);
    }
}

/// Adds the mapping of cookie domains; returns whether there is one.
fn cookie_domains(context: &mut Context<'_>, scope: &Scope<'_>, plugin: &mut Map) -> bool {
    let mut domains = Map::default();
    for directive in scope.all("proxy_cookie_domain") {
        let (from, to) = (directive.argument(0), directive.argument(1));
        if from == "off" {
            context.notes.implied(directive, "cookies are forwarded as they are");
        } else if COOKIE_DOMAINS && !from.starts_with('~') && !from.contains('$') && !to.contains('$') {
            domains.set(from, Yaml::text(to));
            context.notes.taken(directive, "`rewrite_cookie_domain` of the plugin `rewrite`");
        } else {
            context.notes.refused(
                directive,
                "domains of cookies are not changed",
                "let the application omit the domain, so that the cookie is that of the requested host",
            );
        }
    }
    let is_any = !domains.is_empty();
    if is_any {
        plugin.set("rewrite_cookie_domain", domains);
    }
    is_any
}
