//! `return`, `rewrite` and `if` as the plugins `respond`, `redirect` and `rewrite`.

use super::Context;
use crate::cel::{self, Variables};
use crate::cel_text::{literal, no_equivalent, regex_text};
use crate::reader::Directive;
use crate::report::Outcome;
use crate::yaml::{Map, Yaml};

/// The advice for a directive without an equivalent.
const SCRIPT: &str = "write a route for the requests that it concerns, or a `luau` script";

/// What the rewrite directives of a level do, in their order.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Plugins that respond under a condition, or change the path.
    pub(super) plugins: Vec<Map>,
    /// Routes for redirects by regular expressions: path and plugins.
    pub(super) routes: Vec<(String, Vec<Map>)>,
    /// Whether the last plugin always responds.
    pub(super) is_final: bool,
}

/// Reads the rewrite directives of a level.
pub(super) fn steps(context: &mut Context<'_>, level: &[Directive], variables: &Variables<'_>) -> Steps {
    let mut steps = Steps::default();
    for directive in level {
        if steps.is_final && ["return", "rewrite", "if"].contains(&directive.name.as_str()) {
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
            "rewrite" => rewrite(context, directive, variables, &mut steps),
            "if" => branch(context, directive, variables, &mut steps),
            "set"
                if !directive.argument(1).contains('$')
                    || variables.template(directive.argument(1)).is_ok() =>
            {
                context.notes.taken(directive, "the value where the variable is used");
            }
            "set" => context.notes.refused(directive, "its value has no equivalent", SCRIPT),
            "break" => context.notes.implied(directive, "a path is not rewritten twice"),
            _ => {}
        }
    }
    steps
}

/// An `if` that ends with `return` or with a redirect.
fn branch(context: &mut Context<'_>, directive: &Directive, variables: &Variables<'_>, steps: &mut Steps) {
    let words: Vec<&str> = directive.texts().collect();
    let refuse = |context: &mut Context<'_>, why: &str| {
        context.notes.block(directive, Outcome::NotTranslated, why, Some(SCRIPT));
    };
    let condition = match cel::condition(&words, variables) {
        Ok(condition) => condition,
        Err(why) => return refuse(context, &why),
    };
    let inner: Vec<&Directive> = directive.children().iter().filter(|child| child.name != "break").collect();
    let [child] = inner.as_slice() else {
        return match inner.is_empty() {
            true => context.notes.block(directive, Outcome::Implied, "it does nothing", None),
            false => refuse(context, "only an `if` with one `return` or one redirect has an equivalent"),
        };
    };
    let plugin = match child.name.as_str() {
        "return" => response(context, child, variables),
        "rewrite" => whole_redirect(child, variables).and_then(|(plugin, _)| {
            plugin.ok_or_else(|| "only an `if` with a redirect has an equivalent".to_owned())
        }),
        "set" => Err("a variable that depends on a condition has no equivalent".to_owned()),
        other => Err(format!("`{other}` in an `if` has no equivalent")),
    };
    match plugin {
        Ok(mut plugin) => {
            plugin.insert_after_kind("when", Yaml::text(condition));
            let kind = plugin.kind();
            context.notes.taken(directive, format!("`when` of the plugin `{kind}`"));
            if !context.notes.has(child) {
                context.notes.taken(child, format!("the plugin `{kind}`"));
            }
            for other in directive.children().iter().filter(|child| child.name == "break") {
                context.notes.implied(other, "a path is not rewritten twice");
            }
            steps.plugins.push(plugin);
        }
        Err(why) => refuse(context, &why),
    }
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
            return Err("a body with variables has no equivalent".to_owned());
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
    let whole = ["${request_uri}", "${uri}${is_args}${args}", "${document_uri}${is_args}${args}"];
    let (start, keep_query) = match whole.iter().find_map(|end| url.strip_suffix(end)) {
        Some(start) => (format!("{start}${{uri}}"), true),
        None => (url.clone(), false),
    };
    let start = start.replace("${http_host}", "${host}");
    // The path as it was sent: `{path}` is not decoded.
    let to = match start.strip_suffix("${uri}") {
        Some(start) => variables.template(start).map(|start| format!("{start}{{path}}")),
        None => variables.template(&start),
    };
    let to = to.map_err(|name| no_equivalent(&name))?;
    if !to.starts_with(['/', '{']) && !to.starts_with("http://") && !to.starts_with("https://") {
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

fn rewrite(context: &mut Context<'_>, directive: &Directive, variables: &Variables<'_>, steps: &mut Steps) {
    let flag = directive.argument(2);
    match whole_redirect(directive, variables) {
        Ok((Some(plugin), true)) => {
            context.notes.taken(directive, "the plugin `redirect`");
            steps.plugins.push(plugin);
            steps.is_final = true;
            return;
        }
        Ok((Some(mut plugin), false)) => {
            let Ok(pattern) = regex_text(directive.argument(0), false) else { return };
            plugin.insert_after_kind(
                "when",
                Yaml::text(format!("request.path.matches({})", literal(&pattern))),
            );
            context.notes.taken(directive, "the plugin `redirect` with `when`");
            steps.plugins.push(plugin);
            return;
        }
        Ok((None, _)) => {}
        Err(why) => return context.notes.refused(directive, why, SCRIPT),
    }
    let (pattern, replacement) = (directive.argument(0), directive.argument(1));
    let replaced = replace_plugin(pattern, replacement);
    match (replaced, is_redirect(directive)) {
        (Err(why), _) => context.notes.refused(directive, why, SCRIPT),
        (Ok((plugin, origin)), true) => {
            let Ok(path) = regex_text(pattern, false) else { return };
            let status = if flag == "permanent" { 301 } else { 302 };
            let keep = if replacement.ends_with('?') { "" } else { "${is_args}${args}" };
            match redirect(&format!("{origin}${{uri}}{keep}"), status, variables) {
                Ok(redirect) => {
                    steps.routes.push((format!("~{path}"), vec![plugin, redirect]));
                    context.notes.taken(directive, "a route with the plugins `rewrite` and `redirect`");
                }
                Err(why) => context.notes.refused(directive, why, SCRIPT),
            }
        }
        (Ok((plugin, _)), false) if flag == "break" => {
            steps.plugins.push(plugin);
            context.notes.taken(directive, "`replace` of the plugin `rewrite`");
        }
        (Ok(_), false) => context.notes.refused(
            directive,
            "a rewritten path does not choose another route",
            "write a route for the old path, with the plugin `rewrite` and the upstream of the new one",
        ),
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
    for part in crate::cel_text::parts(path) {
        match part {
            crate::cel_text::Part::Literal(text) => with.push_str(&text.replace('$', "$$")),
            crate::cel_text::Part::Variable(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                with.push_str(&format!("${{{name}}}"));
            }
            crate::cel_text::Part::Variable(name) => {
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
