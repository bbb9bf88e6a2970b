//! Header fields: `proxy_set_header`, `add_header`, `expires` and their relatives as the plugin `headers`.

use super::Context;
use crate::cel::Variables;
use crate::cel_text::sole_variable;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};

/// The condition under which `add_header` without `always` adds a field.
const ADDED: &str = "response.status >= 200 && response.status < 400";

/// Fields that every forwarded request has, with the variables whose value they have.
const FORWARDED: &[(&str, &[&str])] = &[
    ("host", &["http_host", "host"]),
    ("x-forwarded-for", &["proxy_add_x_forwarded_for", "remote_addr", "realip_remote_addr"]),
    ("x-forwarded-proto", &["scheme"]),
    ("x-forwarded-host", &["host", "http_host", "server_name"]),
    ("upgrade", &["http_upgrade"]),
    ("connection", &["http_connection", "http_upgrade"]),
];

/// The fields that a location sets in requests.
#[derive(Debug, Default)]
pub(super) struct RequestFields {
    set: Map,
    /// Further fields of the same names, each mapping for a plugin of its own after the first.
    add: Vec<Map>,
    remove: Vec<Yaml>,
    /// The Host that nginx sends, if it is not the client's.
    pub(super) host: Option<String>,
    /// Whether the pair of a WebSocket handshake is forwarded.
    pub(super) upgrades: bool,
}

impl RequestFields {
    /// Reads `proxy_set_header` and `grpc_set_header`. `copied` are fields that the authentication service sets.
    pub(super) fn read(
        context: &mut Context<'_>,
        scope: &Scope<'_>,
        variables: &Variables<'_>,
        copied: &[(String, String)],
        proxy_host: &str,
    ) -> Self {
        let mut fields = Self { host: Some(proxy_host.to_owned()), ..Self::default() };
        let directives = scope.any_of(&["proxy_set_header", "grpc_set_header"]);
        fields.upgrades = directives.iter().any(|directive| {
            directive.argument(0).eq_ignore_ascii_case("upgrade")
                && sole_variable(directive.argument(1)).as_deref() == Some("http_upgrade")
        });
        for directive in directives {
            fields.directive(context, directive, variables, copied);
        }
        if !fields.upgrades {
            context.remark(
                "Every route forwards WebSockets, also those of locations that do not set `Upgrade` and `Connection`.",
            );
        }
        context.remark(
            "The gateway adds X-Forwarded-For, -Proto and -Host to every request (`server.x_forwarded`).",
        );
        if let Some(host) = fields.host.clone() {
            fields.set.set("Host", Yaml::text(host));
            fields.set.comment("Host", "nginx's default; remove it to forward the client's Host");
        }
        fields
    }

    fn directive(
        &mut self,
        context: &mut Context<'_>,
        directive: &Directive,
        variables: &Variables<'_>,
        copied: &[(String, String)],
    ) {
        let (name, value) = (directive.argument(0), directive.argument(1));
        let lower = name.to_ascii_lowercase();
        let variable = sole_variable(value);
        if lower == "host" {
            if variable.as_deref() == Some("proxy_host") {
                return context.notes.taken(directive, "`set: { Host: … }` of the plugin `headers`");
            }
            self.host = None;
            if variable.as_deref() == Some("host") && context.has_port_in_host {
                self.put("Host", Yaml::text("{host}"));
                let became =
                    "`set: { Host: \"{host}\" }` of the plugin `headers`: nginx's `$host` has no port";
                return context.notes.taken(directive, became);
            }
        }
        let notes = &mut context.notes;
        if let Some(variable) = &variable
            && copied.iter().any(|(field, copied)| *field == lower && copied == variable)
        {
            return notes.taken(directive, "`response_headers` of `forward_auth`");
        }
        let forwarded = FORWARDED.iter().find(|(field, _)| *field == lower).map(|(_, values)| *values);
        if variable
            .as_ref()
            .is_some_and(|variable| forwarded.is_some_and(|values| values.contains(&&**variable)))
        {
            if variable.as_deref() == Some("proxy_add_x_forwarded_for") && !context.trusts_proxies {
                context.remark(
                    "X-Forwarded-For of a client is replaced, where `$proxy_add_x_forwarded_for` continues it: set \
                     `server.trusted_proxies` to the addresses of a balancer before the gateway.",
                );
            }
            let notes = &mut context.notes;
            return match lower.as_str() {
                "x-forwarded-for" => notes.implied(
                    directive,
                    "the gateway adds it; a value of a client that is not in `server.trusted_proxies` is replaced",
                ),
                "host" => notes.implied(directive, "Host is forwarded unchanged"),
                "upgrade" | "connection" => notes.implied(directive, "every route forwards WebSockets"),
                _ => notes.implied(directive, "the gateway adds it"),
            };
        }
        if lower == "connection" || lower == "upgrade" {
            let is_usual = ["", "upgrade", "close", "keep-alive", "websocket"]
                .iter()
                .any(|usual| value.eq_ignore_ascii_case(usual));
            let of_map = variable.as_ref().is_some_and(|name| context.maps.get(name).is_some());
            // The map of a site is in nginx.conf.
            let of_other_file = self.upgrades
                && lower == "connection"
                && variable.as_ref().is_some_and(|name| !context.maps.is_defined(name));
            if is_usual || of_map || of_other_file {
                notes.implied(directive, "every route forwards WebSockets and keeps connections to backends");
            } else {
                notes.refused(directive, "the gateway sets this field itself", "");
            }
            return;
        }
        if ["http_host:$server_port", "host:$server_port"].contains(&value.trim_start_matches('$'))
            && lower == "host"
        {
            return notes.implied(directive, "Host is forwarded unchanged, with the client's port");
        }
        let own = format!("http_{}", lower.replace('-', "_"));
        if variable.as_deref() == Some(&own) {
            if lower.starts_with("x-forwarded-") && !context.trusts_proxies {
                notes.changed(directive, "the value of a client is replaced, as no proxy is trusted");
                return notes.help(
                    directive,
                    "set `server.trusted_proxies` to the addresses of the balancer, whose value is then forwarded",
                );
            }
            return notes.implied(directive, "fields of the client are forwarded");
        }
        if ["content-length", "transfer-encoding", "te", "trailer", "keep-alive"].contains(&lower.as_str()) {
            return notes.refused(directive, "the gateway sets this field itself", "");
        }
        if value.is_empty() {
            if lower == "host" {
                return notes.refused(directive, "Host cannot be removed", "");
            }
            self.remove.push(Yaml::text(name));
            return notes.taken(directive, "`remove` of the plugin `headers`");
        }
        match variables.template(value) {
            Ok(template) => {
                let is_sent_empty = variable.is_some_and(|name| context.maps.get(&name).is_none())
                    && template.starts_with("{cel:");
                let became = format!("`set: {{ {name}: \"{template}\" }}` of the plugin `headers`");
                self.put(name, Yaml::text(template));
                if is_sent_empty {
                    let why =
                        "the plugin `headers`; an empty value is sent as an empty field, which nginx omits";
                    return notes.changed(directive, why);
                }
                notes.taken(directive, became);
            }
            Err(why) => {
                let help = "set the field by the plugin `headers`, or by a `luau` script, to a value that an expression can compute";
                if lower == "host" {
                    return notes.refused(directive, why.to_string(), help);
                }
                // A backend that relies on the field must not take a client's value for it.
                self.remove.push(Yaml::text(name));
                notes.refused(directive, format!("{why}; the field is removed from requests"), help);
            }
        }
    }

    /// Sets a field, or adds one more of its name.
    fn put(&mut self, name: &str, value: Yaml) {
        // There is exactly one Host.
        let name = if name.eq_ignore_ascii_case("host") { "Host" } else { name };
        if name == "Host" || !self.set.has_field(name) {
            return self.set.set(name, value);
        }
        put_in(&mut self.add, name, value);
    }

    /// The `request` of plugins, each with one field of a name.
    pub(super) fn into_maps(self) -> Vec<Map> {
        let mut request = Map::default();
        if !self.remove.is_empty() {
            request.set("remove", Yaml::List(self.remove));
        }
        if !self.set.is_empty() {
            request.set("set", self.set);
        }
        let mut more = self.add.into_iter();
        if let Some(add) = more.next() {
            request.set("add", add);
        }
        let more = more.map(|add| Map::default().with("add", add));
        [request].into_iter().chain(more).filter(|request| !request.is_empty()).collect()
    }
}

/// Adds a field to the first mapping without one of its name.
fn put_in(maps: &mut Vec<Map>, name: &str, value: Yaml) {
    match maps.iter_mut().find(|map| !map.has_field(name)) {
        Some(map) => map.set(name, value),
        None => maps.push(Map::default().with(name, value)),
    }
}

/// The plugins that change responses: `proxy_hide_header`, `add_header` and `expires`. `requests` are those of requests.
pub(super) fn response_plugins(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
    requests: Vec<Map>,
) -> Vec<Map> {
    let (mut remove, mut set) = (Vec::new(), Map::default());
    let (mut always, mut conditional) = (Vec::new(), Vec::new());
    for directive in scope.any_of(&["proxy_hide_header", "grpc_hide_header"]) {
        remove.push(Yaml::text(directive.argument(0)));
        context.notes.taken(directive, "`remove` of the plugin `headers`");
    }
    expires(context, scope, &mut set);
    let variables = variables.with_response();
    for directive in scope.all("add_header") {
        let (name, value) = (directive.argument(0), directive.argument(1));
        let target = if directive.argument(2) == "always" { &mut always } else { &mut conditional };
        if value.is_empty() {
            context.notes.implied(directive, "an empty field is not added");
            continue;
        }
        match variables.template(value) {
            Ok(template) => {
                put_in(target, name, Yaml::text(template));
                context.notes.taken(directive, format!("`add: {{ {name}: … }}` of the plugin `headers`"));
            }
            Err(why) => context.notes.refused(
                directive,
                why.to_string(),
                "the plugins `cors` and `security_headers` cover common fields",
            ),
        }
    }
    let headers = || Map::default().with("kind", Yaml::text("headers"));
    let mut plugins: Vec<Map> =
        requests.into_iter().map(|request| headers().with("request", request)).collect();
    let responses = changes((!remove.is_empty()).then_some(("remove", Yaml::List(remove))), always);
    for (number, response) in responses.into_iter().enumerate() {
        match plugins.first_mut().filter(|_| number == 0) {
            Some(plugin) => plugin.set("response", response),
            None => plugins.push(headers().with("response", response)),
        }
    }
    for response in changes((!set.is_empty()).then_some(("set", set.into())), conditional) {
        plugins.push(headers().with("when", Yaml::text(ADDED)).with("response", response));
    }
    plugins
}

/// The plugins that change refusals: `add_header` with `always`.
pub(super) fn always(context: &mut Context<'_>, scope: &Scope<'_>, variables: &Variables<'_>) -> Vec<Map> {
    let mut plugins = response_plugins(context, scope, variables, Vec::new());
    plugins.retain(|plugin| plugin.get("when").is_none());
    plugins
}

/// The `response` of plugins: the first has another change too.
fn changes(first: Option<(&str, Yaml)>, added: Vec<Map>) -> Vec<Map> {
    let mut changes: Vec<Map> = Vec::new();
    changes.extend(first.map(|(key, value)| Map::default().with(key, value)));
    let mut added = added.into_iter();
    if let (Some(change), Some(add)) = (changes.first_mut(), added.as_slice().first()) {
        change.set("add", add.clone());
        added.next();
    }
    changes.extend(added.map(|add| Map::default().with("add", add)));
    changes
}

/// nginx replaces the field of the backend.
fn expires(context: &mut Context<'_>, scope: &Scope<'_>, set: &mut Map) {
    let Some(directive) = scope.find("expires") else { return };
    let value = match directive.argument(0) {
        "off" => return context.notes.implied(directive, "it is off"),
        "epoch" | "-1" => Some("no-cache".to_owned()),
        "max" => Some("max-age=315360000".to_owned()),
        text => units::time(text).map(|period| format!("max-age={}", period.0.as_secs())),
    };
    match value {
        Some(value) => {
            set.set("Cache-Control", Yaml::text(value));
            context
                .notes
                .changed(directive, "`Cache-Control` by the plugin `headers`; `Expires` is not sent");
        }
        None => context.notes.refused(
            directive,
            "only a time from now has an equivalent",
            "set `Cache-Control` by the plugin `headers`",
        ),
    }
}
