//! Header fields: `proxy_set_header`, `add_header`, `expires` and their relatives as the plugin `headers`.

use super::Context;
use crate::cel::Variables;
use crate::cel_text::{no_equivalent, sole_variable};
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};

/// The condition under which `add_header` without `always` adds a field.
const ADDED: &str = "response.status >= 200 && response.status < 400";

/// Fields that every forwarded request has, with the variables whose value they have.
const FORWARDED: &[(&str, &[&str])] = &[
    ("host", &["http_host", "host"]),
    (
        "x-forwarded-for",
        &["proxy_add_x_forwarded_for", "remote_addr", "http_x_forwarded_for", "realip_remote_addr"],
    ),
    ("x-forwarded-proto", &["scheme", "http_x_forwarded_proto"]),
    ("x-forwarded-host", &["host", "http_host", "server_name"]),
    ("upgrade", &["http_upgrade"]),
    ("connection", &["http_connection", "http_upgrade"]),
];

/// The fields that a location sets in requests.
#[derive(Debug, Default)]
pub(super) struct RequestFields {
    set: Map,
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
        for directive in scope.any_of(&["proxy_set_header", "grpc_set_header"]) {
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
            self.host = None;
        }
        self.upgrades |= lower == "upgrade" && variable.as_deref() == Some("http_upgrade");
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
            if is_usual || of_map {
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
                self.set.set(name, Yaml::text(template.clone()));
                if variable.is_some_and(|name| context.maps.get(&name).is_none()) && template.starts_with("{cel:") {
                    let why = "the plugin `headers`; an empty value is sent as an empty field, which nginx omits";
                    return notes.changed(directive, why);
                }
                notes.taken(directive, format!("`set: {{ {name}: \"{template}\" }}` of the plugin `headers`"));
            }
            Err(variable) => notes.refused(
                directive,
                no_equivalent(&variable),
                "set the field by the plugin `headers`, or by a `luau` script, to a value that an expression can compute",
            ),
        }
    }

    /// The plugin's `request`, if it has anything.
    pub(super) fn into_map(self) -> Option<Map> {
        let mut request = Map::default();
        if !self.remove.is_empty() {
            request.set("remove", Yaml::List(self.remove));
        }
        if !self.set.is_empty() {
            request.set("set", self.set);
        }
        (!request.is_empty()).then_some(request)
    }
}

/// The plugins that change responses: `proxy_hide_header`, `add_header` and `expires`.
pub(super) fn response_plugins(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
    request: Option<Map>,
) -> Vec<Map> {
    let (mut always, mut conditional) = (Map::default(), Map::default());
    for directive in scope.any_of(&["proxy_hide_header"]) {
        always.push("remove", Yaml::text(directive.argument(0)));
        context.notes.taken(directive, "`remove` of the plugin `headers`");
    }
    for directive in scope.all("add_header") {
        let (name, value) = (directive.argument(0), directive.argument(1));
        let target = if directive.argument(2) == "always" { &mut always } else { &mut conditional };
        if value.is_empty() {
            context.notes.implied(directive, "an empty field is not added");
            continue;
        }
        match variables.template(value) {
            Ok(template) => {
                target.map("add").set(name, Yaml::text(template));
                context.notes.taken(directive, format!("`add: {{ {name}: … }}` of the plugin `headers`"));
            }
            Err(variable) => context.notes.refused(
                directive,
                no_equivalent(&variable),
                "the plugins `cors` and `security_headers` cover common fields",
            ),
        }
    }
    expires(context, scope, &mut conditional);
    let mut plugins = Vec::new();
    let headers = || Map::default().with("kind", Yaml::text("headers"));
    if request.is_some() || !always.is_empty() {
        let mut plugin = headers();
        if let Some(request) = request {
            plugin.set("request", request);
        }
        if !always.is_empty() {
            plugin.set("response", always);
        }
        plugins.push(plugin);
    }
    if !conditional.is_empty() {
        plugins.push(headers().with("when", Yaml::text(ADDED)).with("response", conditional));
    }
    plugins
}

fn expires(context: &mut Context<'_>, scope: &Scope<'_>, conditional: &mut Map) {
    let Some(directive) = scope.find("expires") else { return };
    let value = match directive.argument(0) {
        "off" => return context.notes.implied(directive, "it is off"),
        "epoch" | "-1" => Some("no-cache".to_owned()),
        "max" => Some("max-age=315360000".to_owned()),
        text => units::time(text).map(|period| format!("max-age={}", period.0.as_secs())),
    };
    match value {
        Some(value) => {
            conditional.map("add").set("Cache-Control", Yaml::text(value));
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
