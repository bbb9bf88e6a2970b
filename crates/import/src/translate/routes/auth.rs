//! Plugins that decide about access to a location, among them `auth_request`.

use super::super::access;
use super::super::locations::{Handler, Location};
use super::super::{Context, proxy, responses};
use super::Routes;
use super::route::Draft;
use crate::cel::Variables;
use crate::cel_text::sole_variable;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// Adds the plugins in the order of nginx's phases: limits, addresses, authentication, the body.
pub(super) fn access<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    scope: &Scope<'a>,
    variables: &Variables<'_>,
    all: &[Location<'a>],
    draft: &mut Draft,
) {
    draft.plugins.extend(access::rate_limits(context, scope, variables));
    draft.plugins.extend(access::addresses(context, scope));
    let basic = access::basic_auth(context, scope);
    require(scope, "auth_basic", basic, draft);
    let forward = forward_auth(context, routes, scope, variables, all, draft);
    require(scope, "auth_request", forward, draft);
    draft.plugins.extend(access::body_limit(context, scope));
}

/// Adds the plugin of an authentication. Without one the route is closed: it must not serve what nginx protects.
fn require(scope: &Scope<'_>, name: &str, plugin: Option<Map>, draft: &mut Draft) {
    let is_wanted = scope.find(name).is_some_and(|directive| directive.argument(0) != "off");
    if plugin.is_none() && is_wanted {
        draft
            .comments
            .push(format!("not translated: `{name}`; the route is closed until it has an authentication"));
        draft.plugins.push(responses::respond(403));
    }
    draft.plugins.extend(plugin);
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
        context.notes.implied(directive, "nothing is asked without the plugin `forward_auth`");
        return None;
    }
    let help = "write the plugin `forward_auth` with the service as `upstream`";
    let service =
        all.iter().filter(|location| location.path.literal().is_some_and(|known| path.starts_with(known)));
    let service = service.max_by_key(|location| location.path.literal().map_or(0, str::len));
    let handler = service.map(|location| (location, location.handler(context, &[])));
    let Some((location, Handler::Proxy(pass, inner))) = handler else {
        context.notes.refused(directive, format!("no location forwards `{path}`"), help);
        return None;
    };
    let target = proxy::cases(pass, variables).ok().and_then(|cases| cases.into_iter().next());
    let Some(case) = target else {
        context.notes.refused(directive, "the target of its location has no equivalent", help);
        return None;
    };
    let settings = proxy::upstream_settings(context, &inner, variables, case.target.scheme);
    let number = routes.upstreams.number(context, variables, &case.target, settings);
    let mut plugin = Map::default().with("kind", Yaml::text("forward_auth"));
    plugin.set("upstream", Yaml::text(routes.upstreams.name(number)));
    let target = case.target.uri.unwrap_or_else(|| path.to_owned());
    if target != "/" {
        plugin.set("path", Yaml::text(target));
    }
    copied_fields(context, scope, draft, &mut plugin);
    context.notes.taken(directive, "the plugin `forward_auth`");
    context.notes.taken(pass, "`upstream` of the plugin `forward_auth`");
    if let Some(block) = location.directive {
        context.notes.taken(block, "the plugin `forward_auth`");
    }
    for inner in inner.own() {
        match (inner.name.as_str(), inner.argument(0).to_ascii_lowercase().as_str()) {
            ("proxy_set_header", "content-length" | "host" | "x-real-ip" | "x-forwarded-for" | "cookie") => {
                context.notes.implied(
                    inner,
                    "the service gets the fields of the request without its body, and X-Forwarded-*",
                );
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
