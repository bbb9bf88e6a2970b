//! `upstream` blocks and addresses of `proxy_pass` as upstreams.

use super::Context;
use super::proxy::{Scheme, Settings, Target};
use crate::cel::Variables;
use crate::cel_text::{NoEquivalent, Part, parts, sole_variable};
use crate::names::UniqueNames;
use crate::reader::Directive;
use crate::units;
use crate::yaml::{Map, Yaml};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The number of further endpoints that the gateway tries by default.
const DEFAULT_RETRIES: usize = 2;

/// An upstream of the result.
struct UpstreamDraft {
    name: String,
    target: (String, Scheme),
    settings: Settings,
    /// The number of servers.
    count: usize,
    body: Map,
    endpoints: Yaml,
    is_block: bool,
    uses: usize,
    is_named: bool,
}

/// The upstreams.
pub(super) struct Upstreams<'a> {
    definitions: BTreeMap<String, &'a Directive>,
    names: UniqueNames,
    /// The drafts of each target.
    of_target: HashMap<(String, Scheme), Vec<usize>>,
    drafts: Vec<UpstreamDraft>,
}

impl<'a> Upstreams<'a> {
    pub(super) fn new(http: &'a [Directive]) -> Self {
        let definitions = http.iter().filter(|directive| directive.name == "upstream");
        let definitions =
            definitions.map(|directive| (directive.argument(0).to_owned(), directive)).collect();
        Self { definitions, names: UniqueNames::default(), of_target: HashMap::new(), drafts: Vec::new() }
    }

    /// Whether a target looks like the name of an upstream, but none has it.
    pub(super) fn is_missing(&self, authority: &str) -> bool {
        !authority.contains(['.', ':', '['])
            && authority != "localhost"
            && !self.definitions.contains_key(authority)
    }

    /// The number of an upstream for a target.
    pub(super) fn number(
        &mut self,
        context: &mut Context<'_>,
        variables: &Variables<'_>,
        target: &Target,
        settings: Settings,
    ) -> usize {
        let key = (target.authority.clone(), target.scheme);
        let known = self.of_target.entry(key.clone()).or_default();
        if let Some(at) = known.iter().copied().find(|at| self.drafts[*at].settings.agrees(&settings)) {
            let draft = &mut self.drafts[at];
            draft.uses += 1;
            if draft.settings != settings {
                context.remark("Locations that share an upstream share its `connect_timeout` and `retries`.");
                draft.settings.fill(settings);
            }
            return at;
        }
        let definition = self.definitions.get(&target.authority).copied();
        let (endpoints, mut body, count) = match definition {
            Some(definition) => block(context, variables, definition, target.scheme),
            None => (Yaml::texts([endpoint(&target.authority, target.scheme)]), Map::block(), 1),
        };
        let wanted =
            if definition.is_some() { safe_name(&target.authority) } else { name_of(&target.authority) };
        let name = self.names.unique(wanted.clone());
        if name != wanted && !known.is_empty() {
            body.comments.push("the same servers with the settings of another location".to_owned());
        }
        known.push(self.drafts.len());
        if target.scheme.is_grpc() {
            body.set("protocol", Yaml::text(if target.scheme.is_tls() { "h2" } else { "h2c" }));
        }
        if target.scheme.is_tls() {
            let tls = settings.tls.clone().unwrap_or_default();
            let is_unverified = tls.get("verify").is_some();
            body.set("tls", tls);
            if is_unverified {
                body.comment(
                    "tls",
                    "nginx verifies no certificate here; remove `verify` if the backend's one is valid",
                );
            }
        }
        let is_block = definition.is_some();
        self.drafts.push(UpstreamDraft {
            name,
            target: key,
            settings,
            count,
            body,
            endpoints,
            is_block,
            uses: 1,
            is_named: false,
        });
        self.drafts.len() - 1
    }

    /// The name of an upstream that is not written where it is used.
    pub(super) fn name(&mut self, number: usize) -> String {
        let draft = &mut self.drafts[number];
        draft.is_named = true;
        draft.name.clone()
    }

    /// The names of the upstreams that are written by name.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let named = self.drafts.iter().filter(|draft| !draft.is_inline());
        named.map(|draft| draft.name.as_str()).collect()
    }

    /// Whether an upstream is written where it is used.
    pub(super) fn is_inline(&self, number: usize) -> bool {
        self.drafts[number].is_inline()
    }

    /// The value of `upstream` of a route: a name, or the endpoints of one that has nothing else.
    pub(super) fn reference(&self, number: usize) -> Yaml {
        let draft = &self.drafts[number];
        if draft.is_inline() { draft.endpoints.clone() } else { Yaml::text(draft.name.clone()) }
    }

    /// Adds `upstreams` to the document.
    pub(super) fn write(self, document: &mut Map) {
        for draft in self.drafts.into_iter().filter(|draft| !draft.is_inline()) {
            let mut body = Map::block();
            let retries = draft.retries();
            body.set("endpoints", draft.endpoints);
            let comments = draft.body.comments.clone();
            if let Some(timeout) = &draft.settings.connect_timeout {
                body.set("connect_timeout", Yaml::word(&timeout));
            }
            if let Some(retries) = retries {
                body.set("retries", Yaml::word(&retries));
            }
            body.append(draft.body);
            let upstreams = document.map("upstreams");
            upstreams.set(&draft.name, body);
            for comment in comments {
                upstreams.comment(&draft.name, comment);
            }
        }
    }

    /// The blocks that no location uses.
    pub(super) fn note_unused(&self, context: &mut Context<'_>) {
        let used: BTreeSet<&str> = self.drafts.iter().map(|draft| draft.target.0.as_str()).collect();
        for (name, directive) in &self.definitions {
            if !used.contains(name.as_str()) {
                let why = "no translated location uses it";
                context.notes.block(directive, crate::report::Outcome::Implied, why, None);
            }
        }
    }
}

impl UpstreamDraft {
    fn is_inline(&self) -> bool {
        let is_default = self.settings.connect_timeout.is_none() && self.retries().is_none();
        !self.is_block && !self.is_named && self.uses == 1 && self.body.is_empty() && is_default
    }

    /// The number of further endpoints to try, if it is not the default. nginx tries every server of a group once.
    fn retries(&self) -> Option<usize> {
        let all = || self.count.saturating_sub(1).max(DEFAULT_RETRIES);
        Some(self.settings.retries.unwrap_or_else(all).min(63)).filter(|retries| *retries != DEFAULT_RETRIES)
    }
}

/// An address with its port.
fn endpoint(authority: &str, scheme: Scheme) -> String {
    if authority.starts_with("unix:") {
        return authority.trim_end_matches(':').to_owned();
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { authority.to_owned() } else { format!("{authority}:{}", scheme.port()) }
}

/// A name for the upstream of an address.
fn name_of(authority: &str) -> String {
    if let Some(path) = authority.strip_prefix("unix:") {
        let file = path.trim_end_matches(':').rsplit('/').next().unwrap_or_default();
        return safe_name(file.trim_end_matches(".sock"));
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let is_name = host.starts_with(|c: char| c.is_ascii_alphabetic()) && host != "localhost";
    if is_name {
        safe_name(host.split('.').next().unwrap_or(host))
    } else if port.is_empty() {
        "backend".to_owned()
    } else {
        safe_name(&format!("backend-{port}"))
    }
}

fn safe_name(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if name.is_empty() { "backend".to_owned() } else { name }
}

/// The endpoints and settings of an `upstream` block, and the number of its servers.
fn block(
    context: &mut Context<'_>,
    variables: &Variables<'_>,
    directive: &Directive,
    scheme: Scheme,
) -> (Yaml, Map, usize) {
    let mut endpoints = Vec::new();
    let mut body = Map::block();
    let mut passive = Passive::default();
    let mut count = 0;
    for child in directive.children() {
        match child.name.as_str() {
            "server" => {
                endpoints.push(server(context, child, scheme, &mut passive, &mut body));
                count += 1;
            }
            "zone" => context.notes.implied(child, "the threads of the gateway share the state of endpoints"),
            "keepalive" => context.notes.implied(child, "connections are kept: `max_idle_connections` (512)"),
            "resolver" => context.notes.implied(child, "names are resolved again when their TTL has passed"),
            "keepalive_timeout" => match units::time(child.argument(0)) {
                Some(period) => {
                    if period != moongate_config::Period::seconds(60) {
                        body.set("keepalive_timeout", Yaml::word(&period));
                    }
                    context.notes.taken(child, format!("`keepalive_timeout: {period}`"));
                }
                None => context.notes.refused(child, "it is not a time", ""),
            },
            _ => balance(context, variables, child, &mut body),
        }
    }
    if passive.fails.is_none() && count > 1 {
        context.remark(
            "nginx leaves a server out after 1 failure (`max_fails`), the gateway after 3 in a row \
             (`passive_health.failures` of the upstream).",
        );
    }
    passive.finish(context, &mut body);
    context.notes.taken(directive, format!("`upstreams.{}`", safe_name(directive.argument(0))));
    (Yaml::List(endpoints), body, count)
}

/// `max_fails` and `fail_timeout` of the servers, which are one setting of the upstream.
#[derive(Default)]
struct Passive<'a> {
    fails: Option<(u32, &'a Directive)>,
    timeout: Option<(moongate_config::Period, &'a Directive)>,
    differs: Vec<&'a Directive>,
}

impl<'a> Passive<'a> {
    fn fails(&mut self, fails: u32, server: &'a Directive) {
        match self.fails {
            Some((known, _)) if known != fails => self.differs.push(server),
            _ => self.fails = Some((fails, server)),
        }
    }

    fn timeout(&mut self, timeout: moongate_config::Period, server: &'a Directive) {
        match self.timeout {
            Some((known, _)) if known != timeout => self.differs.push(server),
            _ => self.timeout = Some((timeout, server)),
        }
    }

    fn finish(self, context: &mut Context<'_>, body: &mut Map) {
        let mut passive = Map::default();
        if let Some((fails, _)) = self.fails.filter(|(fails, _)| *fails != 3) {
            passive.set("failures", Yaml::word(&fails));
        }
        let default = moongate_config::Period::seconds(10);
        if let Some((timeout, _)) = self.timeout.filter(|(timeout, _)| *timeout != default) {
            passive.set("eject_for", Yaml::word(&timeout));
        }
        if !passive.is_empty() {
            body.set("passive_health", passive);
        }
        for server in self.differs {
            context.notes.changed(
                server,
                "`max_fails` and `fail_timeout` are one setting of the upstream, the first server's",
            );
        }
    }
}

/// A `server` of an upstream as an endpoint.
fn server<'a>(
    context: &mut Context<'_>,
    directive: &'a Directive,
    scheme: Scheme,
    passive: &mut Passive<'a>,
    body: &mut Map,
) -> Yaml {
    let address = endpoint(directive.argument(0), scheme);
    let mut map = Map::default().with("address", Yaml::text(address.clone()));
    let mut plain = true;
    for parameter in directive.texts().skip(1) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (key, value) {
            ("weight", value) => match value.parse::<u32>() {
                Ok(weight) if weight <= 1000 => {
                    if weight != 1 {
                        map.set("weight", Yaml::word(&weight));
                        plain = false;
                    }
                }
                _ => context.notes.changed(directive, "the weight is 1: weights end at 1000"),
            },
            ("down", _) => {
                map.set("weight", Yaml::word(&0));
                plain = false;
            }
            ("backup", _) => {
                map.set("backup", Yaml::word(&true));
                plain = false;
            }
            ("max_conns", value) => {
                if value.parse::<u32>().is_ok_and(|number| number > 0) {
                    map.set("max_connections", Yaml::word(&value));
                    plain = false;
                }
            }
            ("max_fails", value) => {
                if let Ok(fails) = value.parse() {
                    passive.fails(fails, directive);
                }
            }
            ("fail_timeout", value) => {
                if let Some(timeout) = units::time(value) {
                    passive.timeout(timeout, directive);
                }
            }
            ("slow_start", value) => match units::time(value) {
                Some(period) => body.set("slow_start", Yaml::word(&period)),
                None => context.notes.refused(directive, "`slow_start` is not a time", ""),
            },
            ("resolve" | "route", _) => {}
            (key, _) => context.notes.changed(directive, format!("`{key}` has no equivalent")),
        }
    }
    context.notes.taken(directive, format!("the endpoint `{address}`"));
    if plain { Yaml::text(address) } else { map.into() }
}

/// A directive that selects a balancer.
fn balance(context: &mut Context<'_>, variables: &Variables<'_>, directive: &Directive, body: &mut Map) {
    let kind = |kind: &str| Map::default().with("kind", Yaml::text(kind));
    let notes = &mut context.notes;
    match (directive.name.as_str(), directive.argument(0)) {
        ("least_conn", _) => {
            body.set("balance", Yaml::text("least_connections"));
            notes.taken(directive, "`balance: least_connections`");
        }
        ("ip_hash", _) => {
            body.set("balance", kind("consistent_hash"));
            notes
                .taken(directive, "`balance: { kind: consistent_hash }`, by the whole address of the client");
        }
        ("random", "two") if directive.argument(1).starts_with("least_time") => {
            body.set("balance", Yaml::text("p2c"));
            notes.taken(directive, "`balance: p2c`");
        }
        ("random", "two") => {
            body.set("balance", Yaml::text("p2c"));
            notes.changed(directive, "`balance: p2c` compares response times too");
        }
        ("random", _) => {
            body.set("balance", Yaml::text("random"));
            notes.taken(directive, "`balance: random`");
        }
        ("least_time", _) => {
            body.set("balance", Yaml::text("p2c"));
            notes
                .changed(directive, "`balance: p2c` compares two random endpoints by response time and load");
        }
        ("hash", key) => match key_of(key, variables) {
            Ok(key) => {
                let mut balance = kind("consistent_hash");
                if key != "client_ip" {
                    balance.set("key", Yaml::text(key));
                }
                body.set("balance", balance);
                if directive.argument(1) == "consistent" {
                    notes.taken(directive, "`balance: { kind: consistent_hash, … }`");
                } else {
                    notes.taken(directive, "`balance: { kind: consistent_hash, … }`, which moves fewer keys");
                }
            }
            Err(why) => {
                notes.refused(directive, why.to_string(), "set `balance: { kind: consistent_hash, key: … }`");
            }
        },
        ("sticky", "cookie") => sticky(context, directive, body),
        ("sticky", _) => notes.refused(
            directive,
            "only `sticky cookie` has an equivalent",
            "set `balance: sticky`, or `consistent_hash` with the key that the application uses",
        ),
        _ => {}
    }
}

fn sticky(context: &mut Context<'_>, directive: &Directive, body: &mut Map) {
    let mut balance = Map::default().with("kind", Yaml::text("sticky"));
    if !directive.argument(1).is_empty() {
        balance.set("cookie", Yaml::text(directive.argument(1)));
    }
    for parameter in directive.texts().skip(2) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key.to_ascii_lowercase().as_str() {
            "expires" => {
                if let Some(period) = units::time(value).filter(|period| period.0.as_secs() > 0) {
                    balance.set("max_age", Yaml::word(&period));
                }
            }
            "path" if value != "/" => balance.set("path", Yaml::text(value)),
            "secure" => balance.set("secure", Yaml::word(&true)),
            "samesite" => balance.set("same_site", Yaml::text(value.to_ascii_lowercase())),
            "httponly" | "path" => {}
            other => context.notes.changed(directive, format!("`{other}` of the cookie has no equivalent")),
        }
    }
    body.set("balance", balance);
    context.notes.taken(directive, "`balance: { kind: sticky, … }`");
}

/// Names that an expression of a key cannot read.
const NOT_IN_KEYS: [&str; 10] = [
    "request.host",
    "request.id",
    "request.listener",
    "request.method",
    "request.peer_ip",
    "request.route",
    "request.scheme",
    "request.tls.",
    "request.version",
    "response.",
];

/// A key of nginx as one of ours: `client_ip`, `header:X`, `cookie:X`, `query:X` or an expression.
///
/// # Errors
/// The first variable without an equivalent, or why the key has none.
pub(super) fn key_of(text: &str, variables: &Variables<'_>) -> Result<String, NoEquivalent> {
    let text = variables.expand(text);
    let is_own = |name: &String| variables.maps.get(name).is_none() && variables.assigned(name).is_none();
    let known = sole_variable(&text).filter(is_own).and_then(|name| {
        match name.as_str() {
            "remote_addr" | "binary_remote_addr" | "proxy_protocol_addr" => {
                return Some("client_ip".to_owned());
            }
            "host" => return Some("header:Host".to_owned()),
            _ => {}
        }
        if let Some(field) = name.strip_prefix("http_") {
            let words: Vec<String> = field
                .split('_')
                .map(|word| {
                    let mut letters = word.chars();
                    letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
                })
                .collect();
            return Some(format!("header:{}", words.join("-")));
        }
        let cookie = name.strip_prefix("cookie_").map(|cookie| format!("cookie:{cookie}"));
        cookie.or_else(|| name.strip_prefix("arg_").map(|parameter| format!("query:{parameter}")))
    });
    if let Some(key) = known {
        return Ok(key);
    }
    if parts(&text).iter().all(|part| matches!(part, Part::Literal(_))) {
        return Err(NoEquivalent::Reason("a fixed text is no key".to_owned()));
    }
    let expression = variables.expression(&text)?.replace("request.host", "request.headers[\"host\"]");
    match NOT_IN_KEYS.iter().find(|name| expression.contains(**name)) {
        Some(name) => {
            let name = name.trim_end_matches('.');
            Err(NoEquivalent::Reason(format!("a key cannot have the value of `{name}`")))
        }
        None => Ok(format!("cel:{expression}")),
    }
}
