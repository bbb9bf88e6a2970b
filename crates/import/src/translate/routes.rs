//! Servers and their locations as routes.

mod auth;
mod mapping;
mod route;

use super::hosts::Hosts;
use super::listeners::{self, Listener};
use super::locations::{self, Handler, Location};
use super::paths::LocationPath;
use super::responses::{self, Steps};
use super::upstreams::Upstreams;
use super::{Context, logs};
use crate::cel::Variables;
use crate::cel_text::literal;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};
use route::{Destination, Draft, Names};
use std::collections::BTreeMap;

/// A server with what its routes need.
struct Server<'a> {
    directive: &'a Directive,
    scope: Scope<'a>,
    hosts: Hosts,
    /// The listeners, and whether it is the default server there.
    listens: Vec<(usize, bool)>,
}

/// The hosts and listeners of one set of routes of a server.
struct Reach {
    hosts: Vec<String>,
    /// Names of listeners; empty for all.
    listeners: Vec<String>,
}

/// Adds listeners, upstreams and routes to the document.
pub(super) fn translate<'a>(
    context: &mut Context<'_>,
    http: &'a [Directive],
    scope: &Scope<'a>,
    document: &mut Map,
) {
    let blocks = http.iter().filter(|directive| directive.name == "server" && directive.block.is_some());
    let blocks: Vec<(&Directive, Scope<'a>)> =
        blocks.map(|directive| (directive, scope.within(directive.children()))).collect();
    let listeners = listeners::read(context, &blocks);
    let servers: Vec<Server<'a>> = blocks
        .into_iter()
        .enumerate()
        .map(|(number, (directive, scope))| Server {
            directive,
            scope,
            hosts: Hosts::read(context, directive),
            listens: listens(&listeners, number),
        })
        .collect();
    let mut routes = Routes {
        upstreams: Upstreams::new(http),
        drafts: Vec::new(),
        names: Names::new(servers.len() > 1),
        http: scope.clone(),
    };
    for number in 0..servers.len() {
        server(context, &mut routes, &servers, number, &listeners);
    }
    routes.upstreams.note_unused(context);
    if !servers.is_empty() {
        listeners::write(listeners, document);
    }
    finish(routes, document);
}

/// What the routes of all servers share.
struct Routes<'a> {
    upstreams: Upstreams<'a>,
    drafts: Vec<Draft>,
    names: Names,
    http: Scope<'a>,
}

fn listens(listeners: &[Listener], server: usize) -> Vec<(usize, bool)> {
    let at = |(number, listener): (usize, &Listener)| {
        listener.servers.contains(&server).then_some((number, listener.default == server))
    };
    listeners.iter().enumerate().filter_map(at).collect()
}

/// Moves plugins that every route has to the top, and writes the routes.
fn finish(routes: Routes<'_>, document: &mut Map) {
    let Routes { upstreams, mut drafts, .. } = routes;
    let mut shared: Vec<Map> = Vec::new();
    if drafts.len() > 1 {
        for kind in ["body_limit", "compress"] {
            let forwarding: Vec<&Draft> =
                drafts.iter().filter(|draft| matches!(draft.destination, Destination::Upstream(_))).collect();
            let found = forwarding
                .first()
                .and_then(|draft| draft.plugins.iter().find(|plugin| plugin.kind() == kind));
            let Some(plugin) = found.cloned() else { continue };
            if forwarding.len() > 1 && forwarding.iter().all(|draft| draft.plugins.contains(&plugin)) {
                for draft in &mut drafts {
                    draft.plugins.retain(|other| *other != plugin);
                }
                shared.push(plugin);
            }
        }
    }
    let written: Vec<Yaml> = drafts.into_iter().map(|draft| draft.write(&upstreams).into()).collect();
    upstreams.write(document);
    if !shared.is_empty() {
        document.set("plugins", Yaml::List(shared.into_iter().map(Yaml::Map).collect()));
    }
    if !written.is_empty() {
        document.set("routes", Yaml::List(written));
    }
}

/// Adds the routes of a server.
fn server<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    servers: &[Server<'a>],
    number: usize,
    listeners: &[Listener],
) {
    let server = &servers[number];
    let reaches = reaches(context, servers, number, listeners);
    if reaches.is_empty() {
        context.notes.block(
            server.directive,
            crate::report::Outcome::Implied,
            "no request reaches it: it has no name of a host and is no default server",
            None,
        );
        return;
    }
    context.notes.taken(server.directive, "the routes of its locations");
    let variables = variables(context, server, listeners);
    let mut drafts = Vec::new();
    let steps = responses::steps(context, server.scope.own(), &variables);
    if steps.is_final {
        let base = Draft::new(&LocationPath::Prefix { path: "/".to_owned(), stops_regex: false }, None);
        let mut draft = base;
        draft.destination = Destination::Response;
        draft.plugins = steps.plugins.clone();
        drafts.extend(redirect_routes(&steps));
        drafts.push(draft);
        for child in server.directive.children().iter().filter(|child| child.name == "location") {
            let why = "the `return` of the server responds to every request";
            context.notes.block(child, crate::report::Outcome::Implied, why, None);
        }
    } else {
        let locations = locations::collect(context, server.directive, &server.scope);
        drafts.extend(redirect_routes(&steps));
        for location in &locations {
            self::location(context, routes, &variables, location, &locations, &steps, &mut drafts);
        }
        let is_complete = locations.iter().any(Location::is_catch_all);
        if !is_complete {
            rest(server, servers, &steps, &mut drafts);
        }
    }
    let first = server.hosts.first.clone();
    for reach in &reaches {
        for draft in &drafts {
            let mut draft = draft.clone();
            draft.hosts.clone_from(&reach.hosts);
            draft.listeners.clone_from(&reach.listeners);
            draft.name = routes.names.name(first.as_deref(), &draft);
            routes.drafts.push(draft);
        }
    }
    if let (Some(first), Some(last)) =
        (&first, routes.drafts.iter_mut().rev().nth(drafts.len().saturating_sub(1)))
        && reaches.last().is_some_and(|reach| reach.hosts.is_empty())
    {
        last.comments.insert(0, format!("{first}, and any other host: nginx's default server"));
    }
}

/// The requests that a server gets: those for its names, and those for any other host where it is the default.
fn reaches(
    context: &mut Context<'_>,
    servers: &[Server<'_>],
    number: usize,
    listeners: &[Listener],
) -> Vec<Reach> {
    let server = &servers[number];
    let names = |wanted: &dyn Fn(bool) -> bool| -> Vec<String> {
        let chosen: Vec<String> = server
            .listens
            .iter()
            .filter(|(_, is_default)| wanted(*is_default))
            .map(|(at, _)| listeners[*at].name.clone())
            .collect();
        if chosen.len() == listeners.len() { Vec::new() } else { chosen }
    };
    let is_default = server.listens.iter().any(|(_, is_default)| *is_default);
    let is_everywhere = server.listens.iter().all(|(_, is_default)| *is_default);
    // A wildcard or a regular expression of another server would win over a route without a host.
    let is_contested = servers.iter().enumerate().any(|(other, rival)| {
        other != number
            && rival.hosts.has_pattern()
            && rival.listens.iter().any(|(at, _)| server.listens.iter().any(|(own, _)| own == at))
    });
    let mut reaches = Vec::new();
    if !server.hosts.patterns.is_empty() && (!is_everywhere || is_contested) {
        reaches.push(Reach { hosts: server.hosts.patterns.clone(), listeners: names(&|_| true) });
    }
    if is_default {
        reaches.push(Reach { hosts: Vec::new(), listeners: names(&|is_default| is_default) });
    }
    if server.hosts.has_captures {
        context.remark("Named captures of a `server_name` have no equivalent; variables with their values are not translated.");
    }
    reaches
}

fn variables<'m>(context: &Context<'m>, server: &Server<'_>, listeners: &[Listener]) -> Variables<'m> {
    let mut constants = BTreeMap::new();
    if let Some(first) = &server.hosts.first {
        constants.insert("server_name".to_owned(), first.clone());
    }
    let mut ports: Vec<u16> = server.listens.iter().filter_map(|(at, _)| listeners[*at].port).collect();
    ports.dedup();
    if let [port] = ports.as_slice() {
        constants.insert("server_port".to_owned(), port.to_string());
    }
    add_set(server.scope.own(), &mut constants);
    Variables { maps: context.maps, constants }
}

/// The variables that `set` gives a value at a level.
fn add_set(level: &[Directive], constants: &mut BTreeMap<String, String>) {
    for directive in level.iter().filter(|directive| directive.name == "set") {
        let name = directive.argument(0).trim_start_matches('$').to_owned();
        let value = directive.argument(1);
        // A value that refers to the variable itself would never end.
        if !value.contains(&format!("${name}")) && !value.contains(&format!("${{{name}}}")) {
            constants.insert(name, value.to_owned());
        }
    }
}

fn redirect_routes(steps: &Steps) -> Vec<Draft> {
    let draft = |(path, plugins): &(String, Vec<Map>)| {
        let mut draft =
            Draft::new(&LocationPath::Regex(path.trim_start_matches('~').to_owned()), Some(path.clone()));
        draft.destination = Destination::Response;
        draft.plugins.clone_from(plugins);
        draft.suffix = "redirect";
        draft
    };
    steps.routes.iter().map(draft).collect()
}

/// The route of requests that no location of a server matches.
fn rest(server: &Server<'_>, servers: &[Server<'_>], steps: &Steps, drafts: &mut Vec<Draft>) {
    if steps.plugins.is_empty()
        && (servers.len() == 1 || drafts.is_empty() && server.hosts.patterns.is_empty())
    {
        return;
    }
    let mut draft = Draft::new(&LocationPath::Prefix { path: "/".to_owned(), stops_regex: false }, None);
    draft.destination = Destination::Response;
    draft.suffix = "rest";
    draft.comments.push("no location of the server matches; nginx serves files here".to_owned());
    draft.plugins.clone_from(&steps.plugins);
    draft.plugins.push(responses::respond(404));
    drafts.push(draft);
}

/// Adds the routes of a location.
fn location<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    variables: &Variables<'_>,
    location: &Location<'a>,
    all: &[Location<'a>],
    server_steps: &Steps,
    drafts: &mut Vec<Draft>,
) {
    let Some(directive) = location.directive else { return };
    if location.is_internal() {
        if let Some(internal) = location.scope.own_directive("internal") {
            context.notes.implied(internal, "requests of clients have no route to it");
        }
        return;
    }
    let has_regexes = all.iter().any(|other| matches!(other.path, LocationPath::Regex(_)));
    let path = location.path.written(has_regexes);
    note_path(context, directive, &location.path);
    let mut variables = variables.clone();
    add_set(location.scope.own(), &mut variables.constants);
    let steps = responses::steps(context, location.scope.own(), &variables);
    let mut draft = Draft::new(&location.path, path);
    draft.when = location.except.as_ref().map(|except| format!("!request.path.matches({})", literal(except)));
    draft.access_log = !logs::is_off(context, &location.scope, &routes.http);
    draft.plugins.clone_from(&server_steps.plugins);
    for mut redirect in redirect_routes(&steps) {
        redirect.access_log = draft.access_log;
        drafts.push(redirect);
    }
    draft.plugins.extend(steps.plugins.iter().filter(|plugin| plugin.kind() != "rewrite").cloned());
    let rewrites: Vec<Map> =
        steps.plugins.iter().filter(|plugin| plugin.kind() == "rewrite").cloned().collect();
    if steps.is_final {
        draft.destination = Destination::Response;
        let extra = super::fields::response_plugins(context, &location.scope, &variables, None);
        // Plugins after one that responds see its response, too.
        draft.plugins.splice(0..0, extra);
        drafts.push(draft);
        return;
    }
    match location.handler(context, all) {
        Handler::Proxy(pass, scope) => {
            auth::access(context, routes, &scope, &variables, all, &mut draft);
            proxied(context, routes, &variables, location, pass, &scope, draft, &rewrites, all, drafts);
        }
        Handler::Other(handler) => {
            let status = if super::access::denies_all(&location.scope) { 403 } else { 404 };
            let is_denied = status == 403;
            if is_denied {
                for rule in location.scope.any_of(&["allow", "deny"]) {
                    context.notes.taken(rule, "the plugin `respond` with 403");
                }
            } else {
                let what = handler.map_or("files".to_owned(), |handler| format!("`{}`", handler.name));
                context.notes.refused(
                    directive,
                    format!("nginx serves {what} here; the route responds 404"),
                    "add an upstream that serves them, or remove the route",
                );
                draft.comments.push(format!("not translated: {what}"));
                if location.is_catch_all() && draft.plugins.is_empty() && all.len() == 1 {
                    draft.suffix = "rest";
                }
            }
            draft.destination = Destination::Response;
            draft.plugins.push(responses::respond(status));
            drafts.push(draft);
        }
    }
}

fn note_path(context: &mut Context<'_>, directive: &Directive, path: &LocationPath) {
    match path {
        LocationPath::Prefix { path, .. } if path != "/" && !path.ends_with('/') => {
            context.notes.changed(
                directive,
                format!("`path: {path}` matches whole segments: `{path}` and `{path}/…`, not `{path}x`"),
            );
        }
        LocationPath::Prefix { .. } | LocationPath::Exact(_) | LocationPath::Regex(_) => {
            context.notes.taken(directive, "a route");
        }
        LocationPath::Named(_) => {}
    }
}

/// Adds the routes of a location that is forwarded.
#[allow(clippy::too_many_arguments, reason = "the parts of a location are read by different modules")]
fn proxied<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    variables: &Variables<'_>,
    location: &Location<'a>,
    pass: &'a Directive,
    scope: &Scope<'a>,
    draft: Draft,
    rewrites: &[Map],
    all: &[Location<'a>],
    drafts: &mut Vec<Draft>,
) {
    let cases = match super::proxy::cases(pass, variables) {
        Ok(cases) => cases,
        Err(why) => {
            let help = "write a route for each target, with `when` for its condition";
            context.notes.refused(pass, format!("{why}; the route responds 404"), help);
            let mut draft = draft;
            draft.comments.push(format!("not translated: {}", pass.line()));
            draft.destination = Destination::Response;
            draft.plugins.push(responses::respond(404));
            drafts.push(draft);
            return;
        }
    };
    let has_cases = cases.len() > 1;
    let redirects = cases.iter().any(|case| case.target.uri.is_some());
    if !redirects {
        drafts.extend(slash_redirect(location, all, &draft));
    }
    for case in cases {
        let mut draft = draft.clone();
        draft.when = match (draft.when.take(), case.when) {
            (Some(except), Some(case)) => Some(format!("{except} && ({case})")),
            (except, case) => except.or(case),
        };
        let host = case.target.proxy_host();
        let mut variables = variables.clone();
        variables.constants.insert("proxy_host".to_owned(), host.clone());
        let variables = &variables;
        let settings = super::proxy::upstream_settings(context, scope, variables, case.target.scheme);
        let number = routes.upstreams.number(context, variables, &case.target, settings);
        draft.destination = Destination::Upstream(number);
        route::proxy_settings(context, scope, &mut draft, variables);
        let fields =
            super::fields::RequestFields::read(context, scope, variables, &draft.copied_fields, &host);
        let keeps_host = fields.host.is_none();
        draft.plugins.extend(rewrites.iter().cloned());
        if let Some(uri) = &case.target.uri {
            match super::proxy::path_rewrite(&location.path, uri) {
                Ok(plugin) => mapping::map_back(context, scope, variables, plugin, keeps_host, &mut draft),
                Err(why) => context.notes.refused(pass, why, "write the plugin `rewrite`"),
            }
        } else {
            mapping::map_back(context, scope, variables, None, true, &mut draft);
        }
        let headers = super::fields::response_plugins(context, scope, variables, fields.into_map());
        draft.plugins.extend(headers);
        draft.plugins.extend(super::compression::plugin(context, scope));
        if has_cases {
            draft.suffix_text = Some(case.target.authority.clone());
        }
        drafts.push(draft);
    }
    if !context.notes.has(pass) {
        context.notes.taken(
            pass,
            if has_cases { "a route for each value of the map" } else { "`upstream` of the route" },
        );
    }
}

/// The redirect of `/a` to `/a/` that nginx makes for a location `/a/` that is forwarded.
fn slash_redirect(location: &Location<'_>, all: &[Location<'_>], draft: &Draft) -> Option<Draft> {
    let LocationPath::Prefix { path, .. } = &location.path else { return None };
    let short = path.strip_suffix('/').filter(|short| !short.is_empty())?;
    if all.iter().any(|other| other.path.literal() == Some(short)) {
        return None;
    }
    let mut redirect = Draft::new(&LocationPath::Exact(short.to_owned()), Some(format!("={short}")));
    redirect.destination = Destination::Response;
    redirect.suffix = "slash";
    redirect.access_log = draft.access_log;
    redirect.plugins.push(
        Map::default()
            .with("kind", Yaml::text("redirect"))
            .with("to", Yaml::text(path.clone()))
            .with("keep_query", Yaml::word(&true))
            .with("status", Yaml::word(&301)),
    );
    Some(redirect)
}
