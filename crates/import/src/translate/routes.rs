//! Servers and their locations as routes.

mod auth;
mod forwarding;
mod mapping;
mod mirror;
mod route;

use super::client_certificate::Requirement;
use super::hosts::Hosts;
use super::listeners::{self, Listener};
use super::locations::{self, Handler, Location};
use super::paths::LocationPath;
use super::responses::{self, Level, Rewrite, Steps};
use super::upstreams::Upstreams;
use super::{Context, closed, fields, logs};
use crate::cel::Variables;
use crate::reader::Directive;
use crate::report::Outcome;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};
use forwarding::Forwarding;
use route::{Destination, Draft, Names};
use std::collections::HashSet;

/// A server with what its routes need.
struct Server<'a> {
    directive: &'a Directive,
    scope: Scope<'a>,
    hosts: Hosts,
    /// The listeners, and whether it is the default server there.
    listens: Vec<(usize, bool)>,
    /// What its routes require of client certificates.
    certificates: Requirement,
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
    let (listeners, mut requirements) = listeners::read(context, &blocks);
    let servers: Vec<Server<'a>> = blocks
        .into_iter()
        .enumerate()
        .map(|(number, (directive, scope))| Server {
            directive,
            scope,
            hosts: Hosts::read(context, directive),
            listens: listens(&listeners, number),
            certificates: std::mem::take(&mut requirements[number]),
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
        context.remark(
            "nginx and the gateway listen at the same addresses: stop nginx before the gateway starts.",
        );
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
        listener.servers.binary_search(&server).is_ok().then_some((number, listener.default == server))
    };
    listeners.iter().enumerate().filter_map(at).collect()
}

/// Moves plugins that every route has to the top, and writes the routes.
fn finish(routes: Routes<'_>, document: &mut Map) {
    let Routes { upstreams, mut drafts, mut names, .. } = routes;
    // An upstream without a name has that of its route.
    let known = upstreams.names();
    for draft in &mut drafts {
        if matches!(draft.destination, Destination::Upstream(number) if upstreams.is_inline(number))
            && known.contains(draft.name.as_str())
        {
            draft.name = names.another(&draft.name, &known);
        }
    }
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
        let why = match (server.listens.is_empty(), server.hosts.is_incomplete) {
            (true, _) => "no address of its `listen` has an equivalent",
            (false, true) => "no name of it has an equivalent",
            (false, false) => {
                let why = "no request reaches it: it has no name of a host and is no default server";
                context.notes.block(server.directive, Outcome::Implied, why, None);
                return;
            }
        };
        context.notes.refuse_block(server.directive, why, "");
        return;
    }
    context.notes.taken(server.directive, "the routes of its locations");
    let mut ports = server.listens.iter().filter_map(|(at, _)| listeners[*at].port);
    context.has_port_in_host = ports.any(|port| ![80, 443].contains(&port));
    let mut variables = variables(context, server, listeners);
    let steps = responses::steps(context, Level::Server, server.scope.own(), &mut variables);
    let mut drafts = redirects_of_server(&steps);
    if steps.is_final {
        let mut draft = Draft::new(&LocationPath::Prefix { path: "/".to_owned(), stops_regex: false }, None);
        draft.comments.clone_from(&steps.comments);
        draft.plugins = steps.plugins;
        drafts.push(draft);
        for child in server.directive.children().iter().filter(|child| child.name == "location") {
            let why = "the `return` of the server responds to every request";
            context.notes.block(child, Outcome::Implied, why, None);
        }
    } else {
        let locations = locations::collect(context, server.directive, &server.scope);
        let literals = locations.iter().filter_map(|location| location.path.literal()).collect();
        let site = Site { all: &locations, literals, steps: &steps, variables: &variables };
        for location in &locations {
            self::location(context, routes, &site, location, &mut drafts);
        }
        let is_complete = locations.iter().any(Location::is_catch_all);
        if !is_complete {
            rest(context, server, servers, &steps, &variables, &mut drafts);
        }
    }
    let is_relative = |plugin: &Map| {
        plugin.kind() == "redirect" && matches!(plugin.get("to"), Some(Yaml::Text(to)) if to.starts_with('/'))
    };
    if drafts.iter().flat_map(|draft| &draft.plugins).any(is_relative)
        && !server.scope.is("absolute_redirect", "off")
    {
        context.remark(
            "Redirects to a path have a relative Location; nginx adds scheme and host (`absolute_redirect`).",
        );
    }
    route::keep_order(&mut drafts);
    require_certificates(server, listeners, &mut drafts);
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

/// What the locations of a server share.
struct Site<'s, 'a> {
    all: &'s [Location<'a>],
    /// The paths of prefixes and exact locations.
    literals: HashSet<&'s str>,
    steps: &'s Steps,
    variables: &'s Variables<'s>,
}

/// The routes of a server's own redirects: nginx tries them before it chooses a location, also an exact one.
fn redirects_of_server(steps: &Steps) -> Vec<Draft> {
    let whole = LocationPath::Prefix { path: "/".to_owned(), stops_regex: false };
    let draft = |rewrite: &Rewrite| {
        let path = LocationPath::Regex(rewrite.pattern.clone());
        let mut draft = redirect(&Draft::new(&whole, None), rewrite);
        draft.path = path.written(false);
        draft.rename(&path);
        draft.when.clear();
        draft
    };
    steps.redirects.iter().map(draft).collect()
}

/// The route of a redirect for some paths of another route.
fn redirect(of: &Draft, rewrite: &Rewrite) -> Draft {
    let mut draft = of.clone();
    draft.destination = Destination::Response;
    draft.suffix = "redirect";
    draft.when.push(rewrite.condition());
    draft.plugins.extend(rewrite.plugins.iter().cloned());
    draft
}

/// Adds the refusal of requests without a client certificate.
fn require_certificates(server: &Server<'_>, listeners: &[Listener], drafts: &mut [Draft]) {
    let may_be_plain = server.listens.iter().any(|(at, _)| !listeners[*at].is_tls);
    let Some(plugin) = server.certificates.plugin(may_be_plain) else { return };
    for draft in drafts {
        if let Requirement::Closed(name) = &server.certificates {
            draft.comments.push(format!("not translated: `{name}`; the route is closed until it is"));
        }
        draft.plugins.insert(0, plugin.clone());
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
    let mut variables = Variables::new(context.maps);
    if let Some(first) = &server.hosts.first {
        variables.define("server_name", first.clone());
    }
    let mut ports: Vec<u16> = server.listens.iter().filter_map(|(at, _)| listeners[*at].port).collect();
    ports.dedup();
    if let [port] = ports.as_slice() {
        variables.define("server_port", port.to_string());
    }
    variables
}

/// The route of requests that no location of a server matches.
fn rest(
    context: &mut Context<'_>,
    server: &Server<'_>,
    servers: &[Server<'_>],
    steps: &Steps,
    variables: &Variables<'_>,
    drafts: &mut Vec<Draft>,
) {
    if steps.plugins.is_empty()
        && (servers.len() == 1 || drafts.is_empty() && server.hosts.patterns.is_empty())
    {
        return;
    }
    let mut draft = Draft::new(&LocationPath::Prefix { path: "/".to_owned(), stops_regex: false }, None);
    draft.destination = Destination::Response;
    draft.suffix = "rest";
    draft.comments.push("no location of the server matches; nginx serves files here".to_owned());
    draft.comments.extend(steps.comments.iter().cloned());
    draft.plugins = fields::always(context, &server.scope, variables);
    draft.plugins.extend(steps.plugins.iter().cloned());
    draft.plugins.push(responses::respond(404));
    drafts.push(draft);
}

/// Adds the routes of a location.
fn location<'a>(
    context: &mut Context<'_>,
    routes: &mut Routes<'a>,
    site: &Site<'_, 'a>,
    location: &Location<'a>,
    drafts: &mut Vec<Draft>,
) {
    if matches!(location.path, LocationPath::Named(_)) {
        return;
    }
    let mut draft = Draft::new(&location.path, location.written_path());
    draft.when.clone_from(&location.conditions);
    draft.comments.extend(site.steps.comments.iter().cloned());
    draft.plugins.clone_from(&site.steps.plugins);
    if let LocationPath::Exact(path) = &location.path {
        drafts.extend(site.steps.redirects_of(path).map(|rewrite| redirect(&draft, rewrite)));
    }
    if let Some(why) = &location.closed {
        draft.comments.push(format!(
            "not translated: `{}`, because {why}; these paths are closed until it is",
            location.directive.line()
        ));
        context.notes.refused(location.directive, "the paths that may match it get 403", "");
        draft.plugins.push(responses::respond(403));
        drafts.push(draft);
        return;
    }
    note_path(context, location);
    draft.access_log = !logs::is_off(context, &location.scope, &routes.http);
    if location.is_internal() {
        if let Some(internal) = location.scope.find("internal") {
            context.notes.taken(internal, "the plugin `respond` with 404: no client reaches the location");
        }
        draft.plugins.push(responses::respond(404));
        drafts.push(draft);
        return;
    }
    let mut variables = site.variables.clone();
    let mut steps = responses::steps(context, Level::Location, location.scope.own(), &mut variables);
    drafts.extend(steps.redirects.iter().map(|rewrite| redirect(&draft, rewrite)));
    draft.comments.append(&mut steps.comments);
    draft.plugins.append(&mut steps.plugins);
    if steps.is_final {
        let extra = fields::response_plugins(context, &location.scope, &variables, Vec::new());
        // Plugins after one that responds see its response, too.
        draft.plugins.splice(0..0, extra);
        drafts.push(draft);
        return;
    }
    match location.handler(context, site.all) {
        Handler::Proxy(pass, named) => {
            let mut scopes = vec![&location.scope];
            if let Some(named) = &named {
                // nginx goes through the named location too, its `if` and its access included.
                let mut inner = responses::steps(context, Level::Location, named.scope.own(), &mut variables);
                drafts.extend(inner.redirects.iter().map(|rewrite| redirect(&draft, rewrite)));
                draft.comments.append(&mut inner.comments);
                draft.plugins.append(&mut inner.plugins);
                steps.rewrites.append(&mut inner.rewrites);
                scopes.push(&named.scope);
            }
            auth::access(context, routes, &scopes, &variables, site.all, &mut draft);
            let scope = named.as_ref().map_or(&location.scope, |named| &named.scope);
            let forwarding =
                Forwarding { site, location, pass, scope, variables: &variables, rewrites: &steps.rewrites };
            forwarding.routes(context, routes, draft, drafts);
        }
        Handler::Other(handler) => {
            let status = if super::access::denies_all(&location.scope) { 403 } else { 404 };
            let is_denied = status == 403;
            if is_denied {
                for rule in location.scope.any_of(&["allow", "deny"]) {
                    context.notes.taken(rule, "the plugin `respond` with 403");
                }
            } else {
                no_upstream(context, location, handler, &mut draft);
                if location.is_catch_all() && draft.plugins.is_empty() && site.all.len() == 1 {
                    draft.suffix = "rest";
                }
            }
            let fields = fields::always(context, &location.scope, &variables);
            draft.plugins.splice(0..0, fields);
            draft.plugins.push(responses::respond(status));
            drafts.push(draft);
        }
    }
}

/// Notes a location without a destination.
fn no_upstream(
    context: &mut Context<'_>,
    location: &Location<'_>,
    handler: Option<&Directive>,
    draft: &mut Draft,
) {
    let mistyped = location.scope.own().iter().find_map(|directive| {
        closed::meant(context, &directive.name).filter(|meant| meant.ends_with("_pass"))
    });
    let line = location.directive.line();
    let is_webroot = line.contains("acme-challenge") || line.trim_end_matches('/').ends_with("well-known");
    let (why, help, what) = match (handler, mistyped) {
        (None, None) if is_webroot => (
            "certbot's webroot needs a file server here; the route responds 404".to_owned(),
            "let the gateway request certificates: `tls.acme` of the listener; or add an upstream that serves the files",
            "certbot's webroot".to_owned(),
        ),
        (None, Some(meant)) => (
            format!("no `{meant}` is understood here; the route responds 404"),
            "correct the directive and import again",
            format!("`{meant}`"),
        ),
        _ => {
            let what = handler.map_or("files".to_owned(), |handler| format!("`{}`", handler.name));
            let help = "add an upstream that serves them, or remove the route";
            (format!("nginx serves {what} here; the route responds 404"), help, what)
        }
    };
    context.notes.refused(location.directive, why, help);
    draft.comments.push(format!("not translated: {what}"));
}

fn note_path(context: &mut Context<'_>, location: &Location<'_>) {
    match &location.path {
        LocationPath::Prefix { path, .. }
            if path != "/" && !path.ends_with('/') && !location.is_regex_route =>
        {
            context.notes.changed(
                location.directive,
                format!("`path: {path}` matches whole segments: `{path}` and `{path}/…`, not `{path}x`"),
            );
        }
        LocationPath::Prefix { .. } | LocationPath::Exact(_) | LocationPath::Regex(_) => {
            context.notes.taken(location.directive, "a route");
        }
        LocationPath::Named(_) => {}
    }
}
