//! Locations of a server: nested ones flattened, with what nginx would serve for each.

use super::Context;
use super::closed;
use super::paths::LocationPath;
use super::precedence::{self, Place};
use crate::cel_text::{NoEquivalent, literal, regex_text};
use crate::reader::Directive;
use crate::report::Outcome;
use crate::scope::Scope;

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

/// The longest conditions of a route in bytes; expressions have at most 4 KiB.
const LONGEST_CONDITION: usize = 3500;

/// One location.
#[derive(Clone, Debug)]
pub(super) struct Location<'a> {
    pub(super) directive: &'a Directive,
    pub(super) path: LocationPath,
    /// Conditions, beside the path, under which nginx chooses it.
    pub(super) conditions: Vec<String>,
    /// Whether its route is a regular expression although it is a prefix.
    pub(super) is_regex_route: bool,
    pub(super) scope: Scope<'a>,
    /// Why its requests are refused: its path has no exact equivalent, or is not known.
    pub(super) closed: Option<String>,
}

/// The handler of the requests of a location.
#[derive(Clone, Debug)]
pub(super) enum Handler<'a> {
    /// `proxy_pass` or `grpc_pass`, with the named location of `try_files` that has it.
    Proxy(&'a Directive, Option<Location<'a>>),
    /// Files, or a protocol that the gateway does not have.
    Other(Option<&'a Directive>),
}

impl<'a> Location<'a> {
    /// Whether only internal requests reach it.
    pub(super) fn is_internal(&self) -> bool {
        self.scope.find("internal").is_some()
    }

    /// The path as its route writes it; `None` if it matches every path.
    pub(super) fn written_path(&self) -> Option<String> {
        self.path.written(self.is_regex_route)
    }

    /// Whether it matches every path.
    pub(super) fn is_catch_all(&self) -> bool {
        matches!(&self.path, LocationPath::Prefix { path, .. } if path == "/")
    }

    /// The handler of its requests.
    pub(super) fn handler(&self, context: &mut Context<'_>, all: &[Location<'a>]) -> Handler<'a> {
        for name in ["proxy_pass", "grpc_pass"] {
            if let Some(directive) = self.scope.own_directive(name) {
                return Handler::Proxy(directive, None);
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
                && let Handler::Proxy(pass, _) = target.handler(context, &[])
            {
                context.notes.changed(
                    directive,
                    format!("files are not served; every request is forwarded as in `{last}`"),
                );
                context.notes.taken(target.directive, "the route of the location that falls back to it");
                return Handler::Proxy(pass, Some(target.clone()));
            }
        }
        Handler::Other(None)
    }
}

/// The locations of a server in the order of their routes: regular expressions as nginx tries them, the others as
/// written. Locations that no request reaches are left out.
pub(super) fn collect<'a>(
    context: &mut Context<'_>,
    server: &'a Directive,
    scope: &Scope<'a>,
) -> Vec<Location<'a>> {
    let mut gathered = Vec::new();
    gather(context, server.children(), scope, None, &mut gathered);
    let places: Vec<Place> = gathered
        .iter()
        .map(|(location, parent)| Place {
            path: location.path.clone(),
            parent: *parent,
            may_refuse: closed::may_refuse(context, location.directive),
        })
        .collect();
    let mut placed = Vec::new();
    for (number, precedence) in precedence::of(&places).into_iter().enumerate() {
        let mut location = gathered[number].0.clone();
        if !precedence.is_reached {
            let why = "no request reaches it: another location with a longer path is chosen first";
            context.notes.implied(location.directive, why);
            continue;
        }
        location.is_regex_route = precedence.is_regex_route;
        location.conditions.splice(0..0, precedence.conditions);
        if location.conditions.iter().map(String::len).sum::<usize>() > LONGEST_CONDITION {
            location.conditions.clear();
            location.closed = Some("too many other paths are within its own".to_owned());
        }
        placed.push((precedence.rank, location));
    }
    placed.sort_by_key(|(rank, _)| *rank);
    placed.into_iter().map(|(_, location)| location).collect()
}

/// Adds the locations of a level, each after the regular expressions in it, which nginx tries first.
fn gather<'a>(
    context: &mut Context<'_>,
    level: &'a [Directive],
    scope: &Scope<'a>,
    parent: Option<usize>,
    gathered: &mut Vec<(Location<'a>, Option<usize>)>,
) {
    for directive in level.iter().filter(|directive| directive.name == "location") {
        let words: Vec<&str> = directive.texts().collect();
        let scope = scope.within(directive.children());
        let mut location = Location {
            directive,
            path: LocationPath::Regex(String::new()),
            conditions: Vec::new(),
            is_regex_route: false,
            scope: scope.clone(),
            closed: None,
        };
        match read_path(&words) {
            Ok((path, except)) => {
                location.path = path;
                if let Some(except) = &except {
                    let why = format!(
                        "a route with `when`: paths with `{except}` are excepted, wherever it is in them"
                    );
                    context.notes.changed(directive, why);
                    location.conditions.push(format!("!request.path.matches({})", literal(except)));
                }
            }
            Err(why) => {
                let help = "write routes by prefixes, or a regular expression without these features";
                context.notes.block(directive, Outcome::NotTranslated, &why.to_string(), Some(help));
                if !closed::may_refuse(context, directive) {
                    continue;
                }
                // More paths than nginx's, none of them open.
                let wider = words.last().and_then(|pattern| wider(pattern, words.contains(&"~*")));
                location.path = LocationPath::Regex(wider.unwrap_or_else(|| "^".to_owned()));
                location.closed = Some(why.to_string());
            }
        }
        let is_closed = location.closed.is_some();
        gathered.push((location, parent));
        if !is_closed {
            let number = gathered.len() - 1;
            gather(context, directive.children(), &scope, Some(number), gathered);
        }
    }
}

/// A regular expression that matches at least what the pattern matches, without look-around and other features of PCRE.
fn wider(pattern: &str, ignore_case: bool) -> Option<String> {
    let mut text = pattern.to_owned();
    while let Some(at) = ["(?=", "(?!", "(?<=", "(?<!"].iter().filter_map(|start| text.find(start)).min() {
        let end = group_end(&text[at..])?;
        text.replace_range(at..at + end, "");
    }
    let text = text.replace("(?>", "(?:").replace("*+", "*").replace("++", "+").replace("?+", "?");
    regex_text(&text, ignore_case).ok()
}

/// The length of a group at the beginning of a text.
fn group_end(text: &str) -> Option<usize> {
    let (mut depth, mut is_escaped) = (0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + c.len_utf8());
        }
    }
    None
}

/// The path of a location. A negative look-ahead, as in `/\.(?!well-known)`, becomes an exception.
fn read_path(words: &[&str]) -> Result<(LocationPath, Option<String>), NoEquivalent> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_expression_has_no_look_around() {
        for (pattern, expected) in [
            ("^/(?=a(b)c)x", Some("^/x")),
            ("^/a++(?!b(?!c))$", Some("^/a+$")),
            ("(?>a|b)(?<!\\))", Some("(?:a|b)")),
            ("(a)\\1", None),
        ] {
            assert_eq!(wider(pattern, false).as_deref(), expected, "{pattern}");
        }
    }
}
