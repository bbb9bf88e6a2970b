//! `return`, `rewrite`, `if` and `set` as the plugins `respond`, `redirect` and `rewrite`.

use super::Context;
use super::closed;
use super::proxy::WHOLE_TARGETS;
use crate::cel::{self, Assigned, Variables};
use crate::cel_text::{Part, literal, parts, regex_text};
use crate::reader::Directive;
use crate::report::Outcome;
use crate::yaml::{Map, Yaml};

/// The advice for a directive without an equivalent.
const SCRIPT: &str = "write a route for the requests that it concerns, or a `luau` script";

/// What the rewrite directives of a level do, in their order.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Plugins that respond, some under a condition.
    pub(super) plugins: Vec<Map>,
    /// Routes for redirects by regular expressions.
    pub(super) redirects: Vec<Rewrite>,
    /// Changes of the path by `break`. The first one that matches is the only one.
    pub(super) rewrites: Vec<Rewrite>,
    /// What is not translated and closes the route.
    pub(super) comments: Vec<String>,
    /// Whether the last plugin always responds.
    pub(super) is_final: bool,
}

impl Steps {
    /// The redirects that concern one path.
    pub(super) fn redirects_of(&self, path: &str) -> impl Iterator<Item = &Rewrite> {
        let matches = move |rewrite: &&Rewrite| {
            regex::Regex::new(&rewrite.pattern).is_ok_and(|pattern| pattern.is_match(path))
        };
        self.redirects.iter().filter(matches)
    }
}

/// A rewrite of the paths that a regular expression matches.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    pub(super) pattern: String,
    pub(super) plugins: Vec<Map>,
}

impl Rewrite {
    /// The condition under which it applies.
    pub(super) fn condition(&self) -> String {
        format!("request.path.matches({})", literal(&self.pattern))
    }
}

/// Whether the rewrites are those of a server: nginx chooses the location afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Server,
    Location,
}

/// Reads the rewrite directives of a level. The variables get the values of `set`.
pub(super) fn steps(
    context: &mut Context<'_>,
    at: Level,
    level: &[Directive],
    variables: &mut Variables<'_>,
) -> Steps {
    let mut steps = Steps::default();
    for directive in level {
        if steps.is_final && ["return", "rewrite", "if", "set"].contains(&directive.name.as_str()) {
            context.notes.block(directive, Outcome::Implied, "an earlier `return` always responds", None);
            continue;
        }
        match directive.name.as_str() {
            "return" => match response(context, directive, variables) {
                Ok(plugin) => {
                    steps.plugins.push(plugin);
                    steps.is_final = true;
                }
                Err(why) => context.notes.refused(directive, why, SCRIPT),
            },
            "rewrite" => rewrite(context, at, directive, variables, &mut steps),
            "if" => branch(context, directive, variables, &mut steps),
            "set" => {
                let name = directive.argument(0).trim_start_matches('$').to_owned();
                note_set(context, directive, variables.assign(&name, directive.argument(1)));
            }
            "break" => context.notes.implied(directive, "a path is not rewritten twice"),
            _ => {}
        }
    }
    steps
}

fn note_set(context: &mut Context<'_>, directive: &Directive, value: &Assigned) {
    match value {
        Assigned::Unknown(why) => {
            let why = format!("its value has no equivalent: {why}");
            context.notes.refused(directive, why, SCRIPT);
        }
        _ => context.notes.taken(directive, "the value where the variable is used"),
    }
}

/// An `if`: the values of `set`, and a `return` or a redirect, which ends the request.
fn branch(
    context: &mut Context<'_>,
    directive: &Directive,
    variables: &mut Variables<'_>,
    steps: &mut Steps,
) {
    let words: Vec<&str> = directive.texts().collect();
    let condition = cel::condition(&words, variables);
    let mut response = None;
    let mut others: Vec<&Directive> = Vec::new();
    for child in directive.children() {
        match child.name.as_str() {
            _ if response.is_some()
                && ["return", "rewrite", "set", "break"].contains(&child.name.as_str()) =>
            {
                context.notes.implied(child, "an earlier `return` responds");
            }
            "set" => {
                let name = child.argument(0).trim_start_matches('$').to_owned();
                note_set(context, child, variables.assign_if(&condition, &name, child.argument(1)));
            }
            "break" => context.notes.implied(child, "a path is not rewritten twice"),
            "return" => response = Some((child, response_of_if(context, child, variables))),
            "rewrite" if is_redirect(child) => {
                response = Some((child, response_of_if(context, child, variables)));
            }
            _ => others.push(child),
        }
    }
    let refuses = closed::may_refuse(context, directive);
    let condition = match condition {
        Ok(condition) => condition,
        Err(why) => {
            context.notes.refuse_block(directive, &why.to_string(), SCRIPT);
            if refuses {
                close(directive, None, steps);
            }
            return;
        }
    };
    match response {
        Some((child, Ok(mut plugin))) => {
            plugin.insert_after_kind("when", Yaml::text(condition));
            let kind = plugin.kind();
            context.notes.taken(directive, format!("`when` of the plugin `{kind}`"));
            if !context.notes.has(child) {
                context.notes.taken(child, format!("the plugin `{kind}`"));
            }
            steps.plugins.push(plugin);
        }
        Some((child, Err(why))) => {
            context.notes.refused(child, why, SCRIPT);
            if refuses {
                close(directive, Some(condition), steps);
            }
        }
        None if others.is_empty() => match directive.children().iter().any(|child| child.name == "set") {
            true => context.notes.taken(directive, "the values of its variables"),
            false => context.notes.implied(directive, "it does nothing"),
        },
        None => {
            let why = "only an `if` with `return`, a redirect or `set` has an equivalent";
            context.notes.refused(directive, why, SCRIPT);
        }
    }
    for other in others {
        let why = format!("`{}` in an `if` has no equivalent", other.name);
        context.notes.block(other, Outcome::NotTranslated, &why, Some(SCRIPT));
    }
}

fn response_of_if(
    context: &mut Context<'_>,
    child: &Directive,
    variables: &Variables<'_>,
) -> Result<Map, String> {
    if child.name == "return" {
        return response(context, child, variables);
    }
    let (plugin, _) = whole_redirect(child, variables)?;
    plugin.ok_or_else(|| "only an `if` with a redirect of whole paths has an equivalent".to_owned())
}

/// Refuses requests that an `if` may refuse, all of them without a condition.
fn close(directive: &Directive, condition: Option<String>, steps: &mut Steps) {
    steps.comments.push(format!("not translated: `{}`; the route is closed until it is", directive.line()));
    let mut plugin = respond(403);
    if let Some(condition) = condition {
        plugin.insert_after_kind("when", Yaml::text(condition));
    }
    steps.plugins.push(plugin);
}

/// The plugin of a `return`.
fn response(
    context: &mut Context<'_>,
    directive: &Directive,
    variables: &Variables<'_>,
) -> Result<Map, String> {
    let (status, text) = match (directive.argument(0), directive.arguments.len()) {
        (url, 1) if url.parse::<u16>().is_err() => (302, Some(url)),
        (code, count) => {
            let status = code.parse::<u16>().map_err(|_| format!("`{code}` is not a status"))?;
            (status, (count > 1).then(|| directive.argument(1)))
        }
    };
    if let (301 | 302 | 303 | 307 | 308, Some(url)) = (status, text) {
        let plugin = redirect(url, status, variables)?;
        context.notes.taken(directive, "the plugin `redirect`");
        return Ok(plugin);
    }
    if status == 444 {
        context.notes.changed(directive, "the response is 404; nginx closes the connection without one");
        return Ok(respond(404));
    }
    if !(200..=599).contains(&status) {
        return Err(format!("the gateway does not send {status}"));
    }
    let mut plugin = respond(status);
    if let Some(text) = text {
        let text = variables.expand(text);
        if text.contains("${") {
            context.notes.changed(
                directive,
                format!("the plugin `respond` with {status}, without the body, as that has variables"),
            );
            return Ok(plugin);
        }
        plugin.set("body", Yaml::text(text));
    }
    context.notes.taken(directive, format!("the plugin `respond` with {status}"));
    Ok(plugin)
}

/// The plugin `respond`.
pub(super) fn respond(status: u16) -> Map {
    let mut plugin = Map::default().with("kind", Yaml::text("respond"));
    if status != 200 {
        plugin.set("status", Yaml::word(&status));
    }
    plugin
}

/// The plugin `redirect` for a URL.
fn redirect(url: &str, status: u16, variables: &Variables<'_>) -> Result<Map, String> {
    let url = variables.expand(url);
    let (start, keep_query) = match WHOLE_TARGETS.iter().find_map(|end| url.strip_suffix(end)) {
        Some(start) => (format!("{start}${{uri}}"), true),
        None => (url.clone(), false),
    };
    let start = start.replace("${http_host}", "${host}");
    // The path as it was sent: `{path}` is not decoded.
    let to = match start.strip_suffix("${uri}") {
        Some(start) => variables.template(start).map(|start| format!("{start}{{path}}")),
        None => variables.template(&start),
    };
    let to = to?;
    let has_space = parts(&url)
        .iter()
        .any(|part| matches!(part, Part::Literal(text) if text.contains(|c: char| c.is_whitespace() || c.is_control())));
    if has_space || !to.starts_with(['/', '{']) && !to.starts_with("http://") && !to.starts_with("https://") {
        return Err(format!("`{url}` is not a URL"));
    }
    let mut plugin = Map::default().with("kind", Yaml::text("redirect")).with("to", Yaml::text(to));
    if keep_query {
        plugin.set("keep_query", Yaml::word(&true));
    }
    if status != 302 {
        plugin.set("status", Yaml::word(&status));
    }
    Ok(plugin)
}

fn rewrite(
    context: &mut Context<'_>,
    at: Level,
    directive: &Directive,
    variables: &Variables<'_>,
    steps: &mut Steps,
) {
    let (pattern, replacement, flag) = (directive.argument(0), directive.argument(1), directive.argument(2));
    let path = regex_text(pattern, false);
    match whole_redirect(directive, variables) {
        Ok((Some(plugin), true)) => {
            context.notes.taken(directive, "the plugin `redirect`");
            steps.plugins.push(plugin);
            steps.is_final = true;
            return;
        }
        Ok((Some(mut plugin), false)) => {
            let Ok(path) = path else { return };
            plugin.insert_after_kind("when", Yaml::text(format!("request.path.matches({})", literal(&path))));
            context.notes.taken(directive, "the plugin `redirect` with `when`");
            steps.plugins.push(plugin);
            return;
        }
        Ok((None, _)) => {}
        Err(why) => return context.notes.refused(directive, why, SCRIPT),
    }
    let path = match path {
        Ok(path) => path,
        Err(why) => return context.notes.refused(directive, why.to_string(), SCRIPT),
    };
    let replaced = replace_plugin(pattern, replacement);
    if is_redirect(directive) {
        let status = if flag == "permanent" { 301 } else { 302 };
        let keep = if replacement.ends_with('?') { "" } else { "${is_args}${args}" };
        let found = replaced.and_then(|(plugin, origin)| {
            Ok((plugin, redirect(&format!("{origin}${{uri}}{keep}"), status, variables)?))
        });
        return match found {
            Ok((plugin, redirect)) => {
                // Earlier steps respond first.
                let mut plugins = steps.plugins.clone();
                plugins.extend([plugin, redirect]);
                steps.redirects.push(Rewrite { pattern: path, plugins });
                context.notes.taken(directive, "a route with the plugins `rewrite` and `redirect`");
            }
            Err(why) => context.notes.refused(directive, why, SCRIPT),
        };
    }
    match replaced {
        Ok((plugin, _)) if flag == "break" && at == Level::Location => {
            steps.rewrites.push(Rewrite { pattern: path, plugins: vec![plugin] });
            context.notes.taken(directive, "`replace` of the plugin `rewrite`");
        }
        // nginx serves the new path by another location, with its own access: the old one must not stay open.
        replaced => {
            let why = match (replaced, at) {
                (Err(why), _) => why,
                (Ok(_), Level::Server) => "a rewritten path does not choose the location".to_owned(),
                (Ok(_), Level::Location) => "a rewritten path does not choose another location".to_owned(),
            };
            context.notes.refused(
                directive,
                format!("{why}; the paths that match get 404"),
                "write a route for the old path, with the plugin `rewrite` and the upstream of the new one",
            );
            steps.comments.push(format!("not translated: `{}`; its paths get 404", directive.line()));
            let mut plugin = respond(404);
            plugin.insert_after_kind("when", Yaml::text(format!("request.path.matches({})", literal(&path))));
            steps.plugins.push(plugin);
        }
    }
}

/// Whether a rewrite responds with a redirect.
fn is_redirect(directive: &Directive) -> bool {
    let to = directive.argument(1);
    ["redirect", "permanent"].contains(&directive.argument(2))
        || ["http://", "https://", "$scheme://"].iter().any(|start| to.starts_with(start))
}

/// The redirect of a rewrite that needs no captures, or captures the whole path, and whether it concerns every
/// path. `None` if it is no redirect, or one with captures.
fn whole_redirect(directive: &Directive, variables: &Variables<'_>) -> Result<(Option<Map>, bool), String> {
    if !is_redirect(directive) {
        return Ok((None, false));
    }
    let (pattern, to) = (directive.argument(0), directive.argument(1));
    let every = [
        "^", "^/", "^/?", ".*", "^.*", "^.*$", ".*$", "(.*)", "^(.*)", "^(.*)$", "/(.*)", "^/(.*)",
        "^/(.*)$", "^/?(.*)$", "^/.*$",
    ];
    let is_every = every.contains(&pattern);
    let (to, keep_query) = to.strip_suffix('?').map_or((to, true), |to| (to, false));
    let whole = is_every.then(|| if pattern.contains("/(") || pattern.contains("?(") { "/$1" } else { "$1" });
    let to = match whole.and_then(|end| to.strip_suffix(end)) {
        Some(start) => format!("{start}$uri"),
        None => to.to_owned(),
    };
    let has_captures = to.as_bytes().windows(2).any(|pair| pair[0] == b'$' && pair[1].is_ascii_digit());
    if has_captures {
        return Ok((None, false));
    }
    regex_text(pattern, false)?;
    let status = if directive.argument(2) == "permanent" { 301 } else { 302 };
    let has_query = to.contains('?') || to.ends_with("$request_uri") || !keep_query;
    let to = if has_query { to } else { format!("{to}$is_args$args") };
    let mut plugin = redirect(&to.replace("$is_args$args", ""), status, variables)?;
    if !has_query {
        plugin.set("keep_query", Yaml::word(&true));
    }
    Ok((Some(plugin), is_every))
}

/// The plugin that changes the path as a rewrite does, and scheme and host of the replacement.
fn replace_plugin(pattern: &str, replacement: &str) -> Result<(Map, String), String> {
    let pattern = anchored(&regex_text(pattern, false)?);
    // A group that the pattern does not have is empty.
    let groups = regex::Regex::new(&pattern).map_or(1, |regex| regex.captures_len());
    let has_group = |name: &str| name.parse::<usize>().is_ok_and(|group| group < groups);
    let replacement = replacement.strip_suffix('?').unwrap_or(replacement);
    let (origin, path) = match replacement.split_once("://") {
        Some((scheme, rest)) => {
            let at = rest.find('/').unwrap_or(rest.len());
            (format!("{scheme}://{}", &rest[..at]), &rest[at..])
        }
        None => (String::new(), replacement),
    };
    if path.contains('?') {
        return Err("a rewrite that changes the query has no equivalent".to_owned());
    }
    let mut with = String::new();
    for part in parts(path) {
        match part {
            Part::Literal(text) => with.push_str(&text.replace('$', "$$")),
            Part::Variable(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                if has_group(&name) {
                    with.push_str(&format!("${{{name}}}"));
                }
            }
            Part::Variable(name) => {
                return Err(format!("`${name}` in a path has no equivalent"));
            }
        }
    }
    if !path.starts_with('/') && !path.starts_with('$') {
        return Err("the path does not begin with `/`".to_owned());
    }
    // `$1` where nothing follows that would be read as part of the name.
    for group in 1..=9 {
        let braces = format!("${{{group}}}");
        if with.ends_with(&braces) || with.contains(&format!("{braces}/")) {
            with = with.replace(&format!("{braces}/"), &format!("${group}/"));
            if let Some(start) = with.strip_suffix(&braces) {
                with = format!("{start}${group}");
            }
        }
    }
    let entry = Map::default().with("regex", Yaml::text(pattern)).with("with", Yaml::text(with));
    let plugin =
        Map::default().with("kind", Yaml::text("rewrite")).with("replace", Yaml::List(vec![entry.into()]));
    Ok((plugin, origin))
}

/// A pattern that matches whole paths: nginx replaces the whole path where a part of it matches.
fn anchored(pattern: &str) -> String {
    if pattern.contains('|') {
        return format!("^.*?(?:{pattern}).*$");
    }
    let start = if pattern.starts_with('^') { "" } else { "^.*?" };
    let end = match pattern {
        _ if pattern.ends_with('$') && !pattern.ends_with("\\$") => "",
        _ if pattern.ends_with("(.*)") => "$",
        _ => ".*$",
    };
    format!("{start}{pattern}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_replaces_the_whole_path() {
        for (pattern, anchor) in [
            ("^/a/(.*)", "^/a/(.*)$"),
            ("^/a/(.*)$", "^/a/(.*)$"),
            ("/a", "^.*?/a.*$"),
            ("^/(a|b)$", "^.*?(?:^/(a|b)$).*$"),
        ] {
            assert_eq!(anchored(pattern), anchor);
        }
    }
}
