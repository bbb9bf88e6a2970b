//! Plugins that decide about access to a location, among them `auth_request`.

use super::super::access;
use super::super::locations::{Handler, Location};
use super::super::{Context, closed, proxy, responses};
use super::Routes;
use super::route::Draft;
use crate::cel::Variables;
use crate::cel_text::{literal, sole_variable};
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// Directives of `limit_except` that are translated.
const METHOD_RULES: [&str; 5] = ["allow", "deny", "auth_basic", "auth_basic_user_file", "satisfy"];

/// Adds the plugins in the order of nginx's phases: limits, addresses, authentication, the body. The access of every
/// scope is required: nginx decides about it before `try_files` and again in the named location.
pub(super) fn access<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    scopes: &[&Scope<'a>],
    variables: &Variables<'_>,
    all: &[Location<'a>],
    draft: &mut Draft,
) {
    let mut plugins: Vec<Map> = Vec::new();
    let mut add = |found: Vec<Map>| {
        for plugin in found {
            if !plugins.contains(&plugin) {
                plugins.push(plugin);
            }
        }
    };
    for scope in scopes {
        let reasons = closed::reasons(context, scope);
        if !reasons.is_empty() {
            draft.comments.extend(reasons);
            add(vec![responses::respond(403)]);
        }
        add(access::rate_limits(context, scope, variables));
    }
    for scope in scopes {
        let found = access_of(context, routes, scope, variables, all, draft);
        match scope.own_directive("limit_except") {
            Some(block) => {
                let restricted = scope.within(block.children());
                let inner = access_of(context, routes, &restricted, variables, all, draft);
                add(by_method(context, block, &found, inner, draft));
            }
            None => add(found),
        }
    }
    draft.plugins.extend(plugins);
    draft.plugins.extend(scopes.first().and_then(|scope| access::body_limit(context, scope)));
}

/// The plugins of addresses and authentication.
fn access_of<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    scope: &Scope<'a>,
    variables: &Variables<'_>,
    all: &[Location<'a>],
    draft: &mut Draft,
) -> Vec<Map> {
    let addresses = access::addresses(context, scope);
    let basic = access::basic_auth(context, scope);
    let basic = require(scope, "auth_basic", basic, draft);
    let forward = forward_auth(context, routes, scope, variables, all, draft);
    let forward = require(scope, "auth_request", forward, draft);
    let mut authentication: Vec<Map> = basic.into_iter().chain(forward).collect();
    if addresses.is_some()
        && let ([plugin], Some(satisfy)) = (authentication.as_mut_slice(), scope.find("satisfy"))
        && satisfy.argument(0) == "any"
        && let Some(allowed) = access::allowed(scope)
    {
        if allowed != "false" {
            require_if(plugin, &format!("!({allowed})"));
        }
        context.notes.taken(satisfy, "`when` of the authentication: allowed clients need none");
        return authentication;
    }
    addresses.into_iter().chain(authentication).collect()
}

/// The plugins of a location with `limit_except`: its own for the listed methods, those of the block for others.
fn by_method(
    context: &mut Context<'_>,
    block: &Directive,
    own: &[Map],
    restricted: Vec<Map>,
    draft: &mut Draft,
) -> Vec<Map> {
    let mut methods: Vec<String> =
        block.texts().map(|method| literal(&method.to_ascii_uppercase())).collect();
    let has = |methods: &[String], wanted: &str| methods.iter().any(|method| *method == literal(wanted));
    if has(&methods, "GET") && !has(&methods, "HEAD") {
        methods.push(literal("HEAD"));
    }
    let listed = format!("request.method in [{}]", methods.join(", "));
    let others = format!("!({listed})");
    context.notes.taken(block, "plugins with `when` for other methods");
    let mut plugins = Vec::new();
    if block.children().iter().any(|child| !METHOD_RULES.contains(&child.name.as_str())) {
        draft.comments.push(format!(
            "not translated: a part of `{}`; other methods are refused until it is",
            block.line()
        ));
        let mut plugin = responses::respond(403);
        require_if(&mut plugin, &others);
        plugins.push(plugin);
    }
    for mut plugin in own.iter().cloned() {
        if !restricted.contains(&plugin) {
            require_if(&mut plugin, &listed);
        }
        plugins.push(plugin);
    }
    for mut plugin in restricted.into_iter().filter(|plugin| !own.contains(plugin)) {
        require_if(&mut plugin, &others);
        plugins.push(plugin);
    }
    plugins
}

/// Adds a condition to a plugin.
fn require_if(plugin: &mut Map, condition: &str) {
    match plugin.get("when") {
        Some(Yaml::Text(known)) => {
            let both = format!("({known}) && {condition}");
            plugin.set("when", Yaml::text(both));
        }
        _ => plugin.insert_after_kind("when", Yaml::text(condition)),
    }
}

/// The plugin of an authentication. Without one the route is closed: it must not serve what nginx protects.
fn require(scope: &Scope<'_>, name: &str, plugin: Option<Map>, draft: &mut Draft) -> Option<Map> {
    let is_wanted = scope.find(name).is_some_and(|directive| directive.argument(0) != "off");
    if plugin.is_none() && is_wanted {
        draft
            .comments
            .push(format!("not translated: `{name}`; the route is closed until it has an authentication"));
        return Some(responses::respond(403));
    }
    plugin
}

fn forward_auth<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    scope: &Scope<'a>,
    variables: &Variables<'_>,
    all: &[Location<'a>],
    draft: &mut Draft,
) -> Option<Map> {
    let directive = scope.find("auth_request")?;
    let path = directive.argument(0);
    if path == "off" {
        context.notes.implied(directive, "without the plugin `forward_auth`, no service decides");
        return None;
    }
    let help = "write the plugin `forward_auth` with the service as `upstream`";
    let service =
        all.iter().filter(|location| location.path.literal().is_some_and(|known| path.starts_with(known)));
    let service = service.max_by_key(|location| location.path.literal().map_or(0, str::len));
    let handler = service.map(|location| (location, location.handler(context, &[])));
    let Some((location, Handler::Proxy(pass, None))) = handler else {
        context.notes.refused(directive, format!("no location forwards `{path}`"), help);
        return None;
    };
    let inner = &location.scope;
    let cases = proxy::cases(pass, variables).unwrap_or_default();
    // A service that depends on a variable has several targets.
    let target = cases.into_iter().next().filter(|case| case.when.is_none()).and_then(|case| case.target);
    let Some(target) = target else {
        context.notes.refused(directive, "the target of its location has no equivalent", help);
        return None;
    };
    let settings = proxy::upstream_settings(context, inner, variables, target.scheme);
    let number = routes.upstreams.number(context, variables, &target, settings);
    let mut plugin = Map::default().with("kind", Yaml::text("forward_auth"));
    plugin.set("upstream", Yaml::text(routes.upstreams.name(number)));
    let target = target.uri.unwrap_or_else(|| path.to_owned());
    if target != "/" {
        plugin.set("path", Yaml::text(target));
    }
    copied_fields(context, scope, draft, &mut plugin);
    context.notes.taken(directive, "the plugin `forward_auth`");
    context.notes.taken(pass, "`upstream` of the plugin `forward_auth`");
    context.notes.taken(location.directive, "the plugin `forward_auth`");
    for inner in inner.own() {
        match (inner.name.as_str(), inner.argument(0).to_ascii_lowercase().as_str()) {
            ("proxy_set_header", "content-length" | "host" | "x-real-ip" | "x-forwarded-for" | "cookie") => {
                context.notes.implied(
                    inner,
                    "the service gets the fields of the request without its body, and X-Forwarded-*",
                );
            }
            ("proxy_pass_request_body", "off") => {
                context.notes.implied(inner, "the service gets no body");
            }
            ("proxy_set_header", "x-original-uri" | "x-original-url" | "x-original-method") => {
                context.notes.changed(inner, "the service gets X-Forwarded-Uri, -Host and -Method instead");
            }
            ("proxy_set_header", _) => {
                context.notes.changed(inner, "the service gets the fields of the request and X-Forwarded-*");
            }
            _ => {}
        }
    }
    Some(plugin)
}

/// Fields of the service that go to the backend or to the client.
fn copied_fields(context: &mut Context<'_>, scope: &Scope<'_>, draft: &mut Draft, plugin: &mut Map) {
    for directive in scope.all("auth_request_set") {
        let variable = directive.argument(0).trim_start_matches('$').to_owned();
        let source = sole_variable(directive.argument(1)).unwrap_or_default();
        let Some(field) = source.strip_prefix("upstream_http_").map(|field| field.replace('_', "-")) else {
            context.notes.refused(directive, "only fields of the service have an equivalent", "");
            continue;
        };
        let sets = scope.all("proxy_set_header").into_iter();
        let to_backend = sets.filter(|set| set.argument(0).eq_ignore_ascii_case(&field));
        let to_backend: Vec<_> =
            to_backend.filter(|set| sole_variable(set.argument(1)).as_deref() == Some(&variable)).collect();
        if let Some(set) = to_backend.first() {
            plugin.push("response_headers", Yaml::text(set.argument(0)));
            draft.copied_fields.push((field, variable));
            context.notes.taken(directive, "`response_headers` of `forward_auth`");
        } else if field == "set-cookie" {
            plugin.push("client_headers", Yaml::text("Set-Cookie"));
            context.notes.taken(directive, "`client_headers` of `forward_auth`");
            draft.copied_fields.push((field, variable));
        } else {
            context.notes.refused(
                directive,
                "a field of the service keeps its name on its way to the backend",
                "let the backend read the service's field, and list it in `response_headers`",
            );
        }
    }
}
