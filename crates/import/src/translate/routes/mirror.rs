//! `mirror` as the plugin `mirror`.

use super::super::Context;
use super::super::locations::{Handler, Location};
use super::super::proxy;
use super::Routes;
use crate::cel::Variables;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// The plugins, one for each `mirror` that applies.
pub(super) fn plugins<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    scope: &Scope<'a>,
    variables: &Variables<'_>,
    all: &[Location<'a>],
) -> Vec<Map> {
    let mut plugins = Vec::new();
    for directive in scope.all("mirror") {
        let path = directive.argument(0);
        if path == "off" {
            context.notes.implied(directive, "nothing is copied without the plugin `mirror`");
            continue;
        }
        let help = "write the plugin `mirror` with the upstream of the copies";
        let service = all.iter().find(|location| location.path.literal() == Some(path));
        let handler = service.map(|location| (location, location.handler(context, &[])));
        let Some((location, Handler::Proxy(pass, None))) = handler else {
            context.notes.refused(directive, format!("no location `{path}` forwards the copies"), help);
            continue;
        };
        let cases = proxy::cases(pass, variables).unwrap_or_default();
        let target = cases.into_iter().next().filter(|case| case.when.is_none()).and_then(|case| case.target);
        let Some(target) = target else {
            context.notes.refused(directive, "the target of its location has no equivalent", help);
            continue;
        };
        let settings = proxy::upstream_settings(context, &location.scope, variables, target.scheme);
        let number = routes.upstreams.number(context, variables, &target, settings);
        let name = routes.upstreams.name(number);
        plugins.push(Map::default().with("kind", Yaml::text("mirror")).with("upstream", Yaml::text(name)));
        let is_whole = target.uri.is_none() && pass.argument(0).contains('$');
        if is_whole {
            context.notes.taken(directive, "the plugin `mirror`, for bodies of at most 64 KiB");
        } else {
            context.notes.changed(directive, "the plugin `mirror`; a copy has the path of its request");
        }
        context.notes.taken(pass, "`upstream` of the plugin `mirror`");
        for field in location.scope.own().iter().filter(|inner| inner.name == "proxy_set_header") {
            context.notes.changed(field, "a copy has the fields of its request");
        }
    }
    plugins
}
