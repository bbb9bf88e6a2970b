//! The plugin `rewrite` of a forwarded location: its path, and redirects and cookies of responses.

use super::super::Context;
use super::route::Draft;
use crate::cel::Variables;
use crate::cel_text::marked_regex;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// Directives whose two arguments replace text in responses, with the key of the plugin.
const REPLACEMENTS: [(&str, &str); 3] = [
    ("proxy_redirect", "rewrite_location"),
    ("proxy_cookie_path", "rewrite_cookie_path"),
    ("proxy_cookie_domain", "rewrite_cookie_domain"),
];

/// Adds the plugin, if anything is to be changed. `plugin` changes the path.
pub(super) fn map_back(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
    plugin: Option<Map>,
    keeps_host: bool,
    draft: &mut Draft,
) {
    let has_prefix = |key: &str| plugin.as_ref().is_some_and(|plugin| plugin.get(key).is_some());
    let strips = has_prefix("strip_prefix");
    if strips {
        context.remark("A route that strips a prefix sends it to the backend in X-Forwarded-Prefix.");
    }
    let has_prefix = strips || has_prefix("add_prefix");
    let mut is_needed = plugin.is_some();
    let mut plugin = plugin.unwrap_or_else(|| Map::default().with("kind", Yaml::text("rewrite")));
    for (name, key) in REPLACEMENTS {
        let mut list: Vec<Yaml> = Vec::new();
        let mut reverses = false;
        for directive in scope.all(name) {
            let (from, to) = (directive.argument(0), directive.argument(1));
            match from {
                "off" => context.notes.implied(directive, "the fields are forwarded as they are"),
                "default" if !has_prefix => context.notes.implied(directive, "the path is not changed"),
                // The usual pair of a stripped prefix, which the plugin reverses.
                "default" => reverses = true,
                "/" if strips && to.len() > 1 && to.starts_with('/') && to.ends_with('/') => reverses = true,
                _ => match replacement(directive, variables) {
                    Ok(replacement) => {
                        list.push(replacement.into());
                        context.notes.taken(directive, format!("`{key}` of the plugin `rewrite`"));
                        continue;
                    }
                    Err(why) => context.notes.refused(directive, why, "see the plugin `rewrite`"),
                },
            }
            if !context.notes.has(directive) {
                context.notes.taken(directive, format!("`{key}: true` of the plugin `rewrite`"));
            }
        }
        // nginx maps URLs of the backend back by default.
        reverses |= name == "proxy_redirect" && has_prefix && !keeps_host && scope.all(name).is_empty();
        is_needed |= reverses || !list.is_empty();
        match list.len() {
            0 if reverses => plugin.set(key, Yaml::word(&true)),
            0 => {}
            1 => plugin.set(key, list.swap_remove(0)),
            _ => plugin.set(key, Yaml::List(list)),
        }
    }
    if is_needed {
        draft.plugins.push(plugin);
    }
}

/// The replacement of a directive.
///
/// # Errors
/// Why it has no equivalent.
fn replacement(directive: &Directive, variables: &Variables<'_>) -> Result<Map, String> {
    let (from, to) = (directive.argument(0), directive.argument(1));
    let (from, to) = match marked_regex(from) {
        Some(pattern) => {
            let to = variables.expand(to).replace("${", "$").replace('}', "");
            if to.contains("$host") || to.contains("$scheme") || to.contains("$server") {
                return Err("a replacement with captures and variables has no equivalent".to_owned());
            }
            (format!("~{}", pattern?), to)
        }
        None => {
            let from = variables.expand(from);
            if from.contains("${") {
                return Err("the replaced text is a variable".to_owned());
            }
            (from, variables.template(to)?)
        }
    };
    if from.is_empty() {
        return Err("the replaced text is empty".to_owned());
    }
    Ok(Map::default().with("from", Yaml::text(from)).with("to", Yaml::text(to)))
}
