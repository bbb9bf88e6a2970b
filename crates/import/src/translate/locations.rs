//! Locations of a server: nested ones flattened, with what nginx would serve for each.

use super::Context;
use super::paths::LocationPath;
use crate::cel_text::regex_text;
use crate::reader::Directive;
use crate::report::Outcome;
use crate::scope::Scope;
use std::cmp::Reverse;

/// Directives that hand a request to something other than HTTP, or serve files.
const HANDLERS: &[&str] = &[
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "perl",
    "js_content",
    "content_by_lua_block",
    "content_by_lua_file",
    "stub_status",
    "flv",
    "mp4",
    "dav_methods",
];

/// One location.
#[derive(Clone, Debug)]
pub(super) struct Location<'a> {
    /// `None` for the server outside of its locations.
    pub(super) directive: Option<&'a Directive>,
    pub(super) path: LocationPath,
    /// A regular expression of paths that it does not match.
    pub(super) except: Option<String>,
    pub(super) scope: Scope<'a>,
}

/// What answers the requests of a location.
#[derive(Clone, Debug)]
pub(super) enum Handler<'a> {
    /// `proxy_pass` or `grpc_pass`, in the scope whose directives apply.
    Proxy(&'a Directive, Scope<'a>),
    /// Files, or a protocol that the gateway does not have.
    Other(Option<&'a Directive>),
}

impl<'a> Location<'a> {
    /// Whether only internal requests reach it.
    pub(super) fn is_internal(&self) -> bool {
        self.scope.own_directive("internal").is_some() || matches!(self.path, LocationPath::Named(_))
    }

    /// Whether it matches every path.
    pub(super) fn is_catch_all(&self) -> bool {
        matches!(&self.path, LocationPath::Prefix { path, .. } if path == "/")
    }

    /// What answers its requests.
    pub(super) fn handler(&self, context: &mut Context<'_>, all: &[Location<'a>]) -> Handler<'a> {
        for name in ["proxy_pass", "grpc_pass"] {
            if let Some(directive) = self.scope.own_directive(name) {
                return Handler::Proxy(directive, self.scope.clone());
            }
        }
        for name in HANDLERS {
            if let Some(directive) = self.scope.own_directive(name) {
                return Handler::Other(Some(directive));
            }
        }
        // `try_files $uri @backend`: without files, every request is the backend's.
        if let Some(directive) = self.scope.own_directive("try_files") {
            let last = directive.arguments.last().map_or("", |argument| &argument.text);
            let named =
                all.iter().find(|other| matches!(&other.path, LocationPath::Named(name) if name == last));
            if let Some(target) = named
                && let Handler::Proxy(pass, scope) = target.handler(context, &[])
            {
                context.notes.changed(
                    directive,
                    format!("files are not served; every request is forwarded as in `{last}`"),
                );
                if let Some(location) = target.directive {
                    context.notes.taken(location, "the route of the location that falls back to it");
                }
                return Handler::Proxy(pass, scope);
            }
        }
        Handler::Other(None)
    }
}

/// The locations of a server in the order of their routes: exact paths, regular expressions as written (and before
/// them `^~` prefixes, which stop their search), then prefixes as written.
pub(super) fn collect<'a>(
    context: &mut Context<'_>,
    server: &'a Directive,
    scope: &Scope<'a>,
) -> Vec<Location<'a>> {
    let mut locations = Vec::new();
    gather(context, server.children(), scope, &mut locations);
    let has_regexes = locations.iter().any(|location| matches!(location.path, LocationPath::Regex(_)));
    if has_regexes {
        let rank = |location: &Location<'_>| match &location.path {
            LocationPath::Prefix { path, stops_regex: true } if path != "/" => (0, Reverse(path.len())),
            _ => (1, Reverse(0)),
        };
        locations.sort_by_key(rank);
        note_shadowed(context, &locations);
    }
    locations
}

/// Reports prefixes below a `^~` prefix: the route of the latter is a regular expression, which wins over them.
fn note_shadowed(context: &mut Context<'_>, locations: &[Location<'_>]) {
    for location in locations {
        let LocationPath::Prefix { path: outer, stops_regex: true } = &location.path else { continue };
        for other in locations {
            if let (LocationPath::Prefix { path: inner, stops_regex: false }, Some(directive)) =
                (&other.path, other.directive)
                && inner != outer
                && inner.starts_with(outer.as_str())
            {
                context.notes.changed(directive, format!("the route of `^~ {outer}` wins over this one"));
                context.notes.help(directive, "write `^~` here too, or list more exact paths");
            }
        }
    }
}

fn gather<'a>(
    context: &mut Context<'_>,
    level: &'a [Directive],
    scope: &Scope<'a>,
    locations: &mut Vec<Location<'a>>,
) {
    for directive in level.iter().filter(|directive| directive.name == "location") {
        let words: Vec<&str> = directive.texts().collect();
        match read_path(&words) {
            Ok((path, except)) => {
                if let Some(except) = &except {
                    let why = format!(
                        "a route with `when`: paths with `{except}` are excepted, wherever it is in them"
                    );
                    context.notes.changed(directive, why);
                }
                let scope = scope.within(directive.children());
                // A location with nested ones alone serves files.
                locations.push(Location { directive: Some(directive), path, except, scope: scope.clone() });
                gather(context, directive.children(), &scope, locations);
            }
            Err(why) => {
                let help = "write routes by prefixes, or a regular expression without these features";
                context.notes.block(directive, Outcome::NotTranslated, &why, Some(help));
            }
        }
    }
}

/// The path of a location. A negative look-ahead, as in `/\.(?!well-known)`, becomes an exception.
fn read_path(words: &[&str]) -> Result<(LocationPath, Option<String>), String> {
    let why = match LocationPath::read(words) {
        Ok(path) => return Ok((path, None)),
        Err(why) => why,
    };
    let ([modifier @ ("~" | "~*"), pattern], 1) = (words, pattern_count(words)) else { return Err(why) };
    let parts = pattern.split_once("(?!").and_then(|(before, rest)| Some((before, rest.split_once(')')?)));
    let Some((before, (excepted, after))) = parts.filter(|(_, (excepted, _))| !excepted.contains('(')) else {
        return Err(why);
    };
    if before.contains('|') || after.contains('|') {
        return Err(why);
    }
    let except = regex_text(&format!("{before}(?:{excepted})"), *modifier == "~*")?;
    let shortened = format!("{before}{after}");
    LocationPath::read(&[modifier, shortened.as_str()]).map(|path| (path, Some(except)))
}

/// The number of negative look-aheads.
fn pattern_count(words: &[&str]) -> usize {
    words.last().map_or(0, |pattern| pattern.matches("(?!").count())
}
