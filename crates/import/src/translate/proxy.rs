//! `proxy_pass`: targets, the path that is forwarded, TLS to backends and timeouts.

use super::Context;
use super::paths::LocationPath;
use crate::cel::{Assigned, Variables};
use crate::cel_text::{NoEquivalent, Part, parts};
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};

/// Texts that are the whole target of a request, its path and its query.
pub(super) const WHOLE_TARGETS: [&str; 4] =
    ["${request_uri}", "${uri}${is_args}${args}", "${uri}?${args}", "${document_uri}${is_args}${args}"];

/// The scheme of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
    Grpc,
    Grpcs,
}

impl Scheme {
    pub(super) fn port(self) -> u16 {
        if self.is_tls() { 443 } else { 80 }
    }

    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    pub(super) fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// Where `proxy_pass` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    /// The name of an upstream, `host`, `host:port` or `unix:/path`.
    pub(super) authority: String,
    /// What takes the place of the location's path.
    pub(super) uri: Option<String>,
}

impl Target {
    /// Reads a URL without variables, except for `$request_uri` and `$uri` at its end.
    ///
    /// # Errors
    /// Why it has no equivalent.
    pub(super) fn read(url: &str, default: Scheme) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("grpc", rest)) => (Scheme::Grpc, rest),
            Some(("grpcs", rest)) => (Scheme::Grpcs, rest),
            Some((other, _)) => return Err(format!("the scheme `{other}` has no equivalent")),
            None => (default, url),
        };
        let (authority, uri) = match rest.strip_prefix("unix:") {
            Some(path) => {
                let (path, uri) = path.split_once(':').unwrap_or((path, ""));
                (format!("unix:{path}"), uri)
            }
            None => {
                rest.find(['/', '$']).map_or((rest.to_owned(), ""), |at| (rest[..at].to_owned(), &rest[at..]))
            }
        };
        if authority.is_empty() || authority == "unix:" {
            return Err("the address is a variable".to_owned());
        }
        if !is_authority(&authority) {
            return Err(format!("`{authority}` is not an address"));
        }
        let uri = if WHOLE_TARGETS.contains(&uri) { "" } else { uri };
        let uri = if uri.is_empty() { None } else { Some(uri.to_owned()) };
        if uri.as_ref().is_some_and(|uri| uri.contains('$')) {
            return Err("its path has variables".to_owned());
        }
        if uri.as_ref().is_some_and(|uri| uri.contains('?')) {
            return Err("its path has a query".to_owned());
        }
        Ok(Self { scheme, authority, uri })
    }

    /// The value of `$proxy_host`: what nginx sends as Host.
    pub(super) fn proxy_host(&self) -> String {
        if self.authority.starts_with("unix:") { "localhost".to_owned() } else { self.authority.clone() }
    }
}

/// Whether a text can be the name of an upstream or an address.
fn is_authority(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/');
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => (text, "80"),
    };
    let is_mistyped = || {
        let last = host.rsplit('.').next().unwrap_or_default();
        last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<std::net::Ipv4Addr>().is_err()
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(is_allowed) && !is_mistyped(),
        }
}

/// What a location sets for its upstream. Locations with different settings get upstreams of their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) connect_timeout: Option<String>,
    /// The number of further endpoints to try.
    pub(super) retries: Option<usize>,
    pub(super) tls: Option<Map>,
}

impl Settings {
    /// Whether an upstream can have both.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let timeouts = self.connect_timeout.is_none()
            || other.connect_timeout.is_none()
            || self.connect_timeout == other.connect_timeout;
        let retries = self.retries.is_none() || other.retries.is_none() || self.retries == other.retries;
        timeouts && retries && self.tls == other.tls
    }

    /// Adds what the other sets.
    pub(super) fn fill(&mut self, other: Self) {
        self.connect_timeout = self.connect_timeout.take().or(other.connect_timeout);
        self.retries = self.retries.or(other.retries);
    }
}

/// A target and the condition under which it applies.
pub(super) struct Case {
    pub(super) when: Option<String>,
    /// `None` if nginx fails, because the address is empty.
    pub(super) target: Option<Target>,
}

/// The targets of `proxy_pass`: one, or one for each value of a map or of a `set` in an `if`. The last one has no
/// condition.
///
/// # Errors
/// Why it has no equivalent.
pub(super) fn cases(directive: &Directive, variables: &Variables<'_>) -> Result<Vec<Case>, String> {
    let default = if directive.name == "grpc_pass" { Scheme::Grpc } else { Scheme::Http };
    let url = variables.expand(directive.argument(0));
    let values = parts(&url).into_iter().find_map(|part| match part {
        Part::Variable(name) => values(&name, variables).map(|values| (name, values)),
        Part::Literal(_) => None,
    });
    let Some((name, values)) = values else {
        if let Some(why) = variables.first_undefined(&url) {
            return Err(why.to_string());
        }
        return Ok(vec![Case { when: None, target: Some(Target::read(&url, default)?) }]);
    };
    let values = values?;
    if values.len() > 20 {
        return Err("the variable has more than 20 values".to_owned());
    }
    let mut cases = Vec::new();
    for (when, value) in values {
        if when.as_ref().is_some_and(|when| when.contains("request.id") || when.contains("request.route")) {
            return Err("a route cannot depend on the ID of a request".to_owned());
        }
        let url = variables.expand(&url.replace(&format!("${{{name}}}"), &variables.expand(&value)));
        let is_empty = ["", "http://", "https://", "grpc://", "grpcs://"].contains(&url.as_str());
        let target = if is_empty { None } else { Some(Target::read(&url, default)?) };
        cases.push(Case { when, target });
    }
    variables.maps.note_use(&name);
    Ok(cases)
}

/// Values with their conditions.
type Values = Vec<(Option<String>, String)>;

/// The values of a variable with their conditions; `None` if it is not known by them.
fn values(name: &str, variables: &Variables<'_>) -> Option<Result<Values, NoEquivalent>> {
    match variables.assigned(name) {
        Some(Assigned::Cases(cases)) => return Some(Ok(cases.clone())),
        Some(Assigned::Unknown(why)) => return Some(Err(why.clone())),
        Some(_) => return None,
        None => {}
    }
    let map = variables.maps.get(name)?;
    Some(variables.expression(&map.source).and_then(|source| map.cases(&source)))
}

/// The plugin `rewrite` for the path that a target with a URI gets.
///
/// # Errors
/// Why it has no equivalent.
pub(super) fn path_rewrite(path: &LocationPath, uri: &str) -> Result<Option<Map>, String> {
    let rewrite = || Map::default().with("kind", Yaml::text("rewrite"));
    let Some(location) = path.literal() else {
        return Err("a regular expression and a path of `proxy_pass` do not go together".to_owned());
    };
    let is_exact = matches!(path, LocationPath::Exact(_));
    if location == uri {
        return Ok(None);
    }
    if !is_exact && location.ends_with('/') && uri.ends_with('/') {
        let (strip, add) = (location.trim_end_matches('/'), uri.trim_end_matches('/'));
        let mut map = rewrite();
        if !strip.is_empty() {
            map.set("strip_prefix", Yaml::text(strip));
        }
        if !add.is_empty() {
            map.set("add_prefix", Yaml::text(add));
        }
        return Ok(Some(map));
    }
    let end = if is_exact { "$" } else { "" };
    let regex = format!("^{}{end}", regex::escape(location));
    let entry =
        Map::default().with("regex", Yaml::text(regex)).with("with", Yaml::text(uri.replace('$', "$$")));
    Ok(Some(rewrite().with("replace", Yaml::List(vec![entry.into()]))))
}

/// The settings of the upstream that a location makes.
pub(super) fn upstream_settings(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
    scheme: Scheme,
) -> Settings {
    let mut settings = Settings::default();
    if let Some(directive) = scope.any_of(&["proxy_connect_timeout", "grpc_connect_timeout"]).pop() {
        match units::time(directive.argument(0)).filter(|period| !period.0.is_zero()) {
            Some(period) => {
                context.notes.taken(directive, format!("`connect_timeout: {period}` of the upstream"));
                if period != moongate_config::Period::seconds(2) {
                    settings.connect_timeout = Some(period.to_string());
                }
            }
            None => context.notes.refused(directive, "it is not a time", ""),
        }
    }
    settings.retries = retries(context, scope);
    if scheme.is_tls() {
        let family = if scheme.is_grpc() { "grpc" } else { "proxy" };
        settings.tls = Some(tls(context, scope, variables, family));
    }
    settings
}

fn retries(context: &mut Context<'_>, scope: &Scope<'_>) -> Option<usize> {
    let mut retries = None;
    if let Some(directive) = scope.any_of(&["proxy_next_upstream_tries", "grpc_next_upstream_tries"]).pop() {
        match directive.argument(0).parse::<usize>() {
            Ok(0) => context.notes.implied(directive, "every endpoint is tried once"),
            Ok(tries) => {
                retries = Some((tries - 1).min(63));
                context.notes.taken(directive, format!("`retries: {}` of the upstream", (tries - 1).min(63)));
            }
            Err(_) => context.notes.refused(directive, "it is not a number", ""),
        }
    }
    if let Some(directive) = scope.any_of(&["proxy_next_upstream", "grpc_next_upstream"]).pop() {
        let words: Vec<&str> = directive.texts().collect();
        if words.contains(&"off") {
            context.notes.taken(directive, "`retries: 0` of the upstream");
            return Some(0);
        }
        let others: Vec<&str> = words.iter().copied().filter(|word| *word != "error").collect();
        if others.is_empty() {
            context.notes.implied(directive, "failed connections are retried");
        } else {
            let others = others.join("`, `");
            context.notes.changed(
                directive,
                format!(
                    "failed connections are retried; `{others}`: a response is never retried, nor its timeout"
                ),
            );
        }
    }
    retries
}

/// The `tls` of an upstream by `proxy_ssl_…` or, in another family, `grpc_ssl_…`.
fn tls(context: &mut Context<'_>, scope: &Scope<'_>, variables: &Variables<'_>, family: &str) -> Map {
    let mut tls = Map::default();
    match scope.find(&format!("{family}_ssl_verify")) {
        Some(directive) if directive.argument(0) == "on" => {
            context.notes.implied(directive, "certificates are verified");
        }
        directive => {
            tls.set("verify", Yaml::word(&false));
            if let Some(directive) = directive {
                context.notes.taken(directive, "`verify: false` of the upstream's `tls`");
            }
        }
    }
    if let Some(directive) = scope.find(&format!("{family}_ssl_name")) {
        let name = variables.expand(directive.argument(0));
        if name.contains('$') {
            context.notes.refused(directive, "the name is a variable", "set `sni` of the upstream's `tls`");
        } else {
            context.notes.taken(directive, format!("`sni: {name}` of the upstream's `tls`"));
            tls.set("sni", Yaml::text(name));
        }
    }
    for (name, key) in [("trusted_certificate", "ca"), ("certificate", "cert"), ("certificate_key", "key")] {
        if let Some(directive) = scope.find(&format!("{family}_ssl_{name}")) {
            let path = directive.argument(0);
            let path = if key == "key" { context.secret(path) } else { context.paths.written(path) };
            tls.set(key, Yaml::text(path));
            context.notes.taken(directive, format!("`{key}` of the upstream's `tls`"));
        }
    }
    tls
}

/// The timeouts of a route.
pub(super) fn timeouts(context: &mut Context<'_>, scope: &Scope<'_>, route: &mut Map) {
    context.remark(
        "A WebSocket handshake fails 5 s after the connect began (`websocket.handshake_timeout`), in nginx after \
         `proxy_connect_timeout` and `proxy_read_timeout`.",
    );
    let Some(directive) = scope.any_of(&["proxy_read_timeout", "grpc_read_timeout"]).pop() else {
        context.remark(
            "nginx ends a silent WebSocket after 60 s (`proxy_read_timeout`), the gateway after 1 h without a message \
             (`websocket.idle_timeout`); it pings both sides meanwhile.",
        );
        return;
    };
    match units::time(directive.argument(0)).filter(|period| !period.0.is_zero()) {
        Some(period) => {
            let minute = moongate_config::Period::seconds(60);
            if period != minute {
                route.set("timeout", Yaml::word(&period));
                route.set("stream_idle_timeout", Yaml::word(&period));
            }
            if period != moongate_config::Period::seconds(3600) {
                route.map("websocket").set("idle_timeout", Yaml::word(&period));
            }
            context.notes.taken(
                directive,
                format!(
                    "`timeout: {period}` of the route, also as `stream_idle_timeout` and `websocket.idle_timeout`"
                ),
            );
        }
        None => context.notes.refused(directive, "it is not a time", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_an_address() {
        for (text, is_valid) in [
            ("127.0.0.1:8080", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("my_app", true),
            ("app.internal:3000", true),
            ("unix:/run/app.sock", true),
            ("a b", false),
            ("127.0.0.1:9x", false),
            ("127.0.0.1:0", false),
            ("1:80", false),
            ("::1", false),
            ("unix:app.sock", false),
        ] {
            assert_eq!(is_authority(text), is_valid, "{text}");
        }
    }
}
