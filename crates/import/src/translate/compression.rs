//! `gzip` and `brotli` as the plugin `compress`.

use super::Context;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};

/// The plugin, if responses are compressed here.
pub(super) fn plugin(context: &mut Context<'_>, scope: &Scope<'_>) -> Option<Map> {
    let mut encodings = Vec::new();
    for (name, encoding) in [("brotli", "br"), ("gzip", "gzip")] {
        let Some(directive) = scope.find(name) else { continue };
        if directive.argument(0) == "on" {
            encodings.push(encoding);
            context.notes.taken(directive, "the plugin `compress`");
        } else {
            context.notes.implied(directive, "nothing is compressed without the plugin `compress`");
        }
    }
    let [first, ..] = encodings.as_slice() else { return None };
    let family = if *first == "br" { "brotli" } else { "gzip" };
    let mut plugin = Map::default().with("kind", Yaml::text("compress"));
    plugin.set("encodings", Yaml::texts(encodings.iter().copied()));
    let mut types = vec!["text/html".to_owned()];
    if let Some(directive) = scope.find(&format!("{family}_types")) {
        for name in directive.texts() {
            let name = if name == "*" { "*/*" } else { name };
            if !types.iter().any(|known| known == name) {
                types.push(name.to_owned());
            }
        }
        if types.iter().any(|name| name == "*/*") {
            types = vec!["*/*".to_owned()];
        }
        context.notes.taken(directive, "`types` of `compress`");
    }
    plugin.set("types", Yaml::texts(types));
    if let Some(directive) = scope.find(&format!("{family}_min_length")) {
        match units::size(directive.argument(0)) {
            Some(size) => {
                plugin.set("min_size", Yaml::word(&size));
                context.notes.taken(directive, format!("`min_size: {size}` of `compress`"));
            }
            None => not_a_size(context, directive),
        }
    }
    let mut levels = Map::default();
    for (family, key, range) in [("gzip", "gzip", 1..=9), ("brotli", "br", 0..=11)] {
        let Some(directive) = scope.find(&format!("{family}_comp_level")) else { continue };
        match directive.argument(0).parse::<u8>() {
            Ok(level) if range.contains(&level) && encodings.contains(&key) => {
                levels.set(key, Yaml::word(&level));
                context.notes.taken(directive, format!("`levels: {{ {key}: {level} }}` of `compress`"));
            }
            _ => context.notes.implied(directive, "the coding is not in use"),
        }
    }
    if !levels.is_empty() {
        plugin.set("levels", levels);
    }
    for name in ["gzip_types", "gzip_min_length"] {
        if family == "brotli"
            && let Some(directive) = scope.find(name)
            && !context.notes.has(directive)
        {
            context
                .notes
                .changed(directive, "`compress` has one list of types and one size, those of brotli");
        }
    }
    Some(plugin)
}

fn not_a_size(context: &mut Context<'_>, directive: &Directive) {
    context.notes.refused(directive, format!("`{}` is not a size", directive.argument(0)), "");
}
