//! `moongate kinds`: the available balancers, health checks, discoveries, sources, stores and plugins, from the tables that compile them.

use super::{print_error, print_out};
use crate::limit;
use crate::snapshot::Kinds;
use crate::source;
use crate::upstream;
use moongate_config::Kind;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::process::ExitCode;

pub(super) fn main(kinds: &Kinds, name: Option<&str>) -> ExitCode {
    let mut text = String::new();
    list(&mut text, "balance", upstream::BALANCE, name);
    list(&mut text, "health_check", upstream::PROBES, name);
    list(&mut text, "discovery", upstream::DISCOVERY, name);
    list(&mut text, "sources", source::SOURCES, name);
    list(&mut text, "stores", limit::STORES, name);
    list(&mut text, "plugins", kinds.plugins, name);
    match name {
        Some(name) if text.is_empty() => {
            print_error(&format!("error: unknown kind `{name}`; `moongate kinds` lists all kinds\n"));
            ExitCode::from(2)
        }
        _ => print_out(&text),
    }
}

/// Lists the kinds of one table, or the kind `name` with its settings.
fn list<T: ?Sized>(text: &mut String, place: &str, kinds: &[Kind<T>], name: Option<&str>) {
    let wanted: Vec<_> = kinds.iter().filter(|kind| name.is_none_or(|name| name == kind.name)).collect();
    if wanted.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{place}:");
    for kind in wanted {
        let _ = writeln!(text, "  {:<20} {}", kind.name, kind.about);
        if name.is_some() {
            settings(text, kind.schema);
        }
    }
}

/// Lists a kind's settings, one per line.
fn settings(text: &mut String, schema: fn(&mut SchemaGenerator) -> Schema) {
    let mut generator = SchemaGenerator::default();
    let schema = schema(&mut generator).to_value();
    properties(text, &schema, generator.definitions(), 4);
}

/// The settings of a mapping, and those of the mappings in it below them, indented.
fn properties(text: &mut String, schema: &Value, definitions: &Map<String, Value>, indent: usize) {
    // A setting that contains itself would have no end.
    const DEEPEST: usize = 12;
    let found = mapping(schema, definitions).and_then(|schema| schema.get("properties")?.as_object());
    let Some(found) = found.filter(|_| indent <= DEEPEST) else { return };
    for (setting, about) in found {
        let words = about.get("description").and_then(Value::as_str).unwrap_or_default();
        let default = default(about, words);
        // The descriptions of all depths start in the same column.
        let width = 22_usize.saturating_sub(indent);
        let _ = writeln!(text, "{:indent$}{setting:<width$} {}{default}", "", words.replace('\n', " "));
        properties(text, about, definitions, indent + 2);
    }
}

/// The schema of a mapping: the schema itself, its `$ref`, one of its forms, or its items.
fn mapping<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> Option<&'a Value> {
    if schema.get("properties").is_some() {
        return Some(schema);
    }
    if let Some(name) = schema.get("$ref").and_then(|path| path.as_str()?.rsplit('/').next()) {
        return mapping(definitions.get(name)?, definitions);
    }
    let forms = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array());
    let form = forms.flatten().find_map(|form| mapping(form, definitions));
    form.or_else(|| mapping(schema.get("items")?, definitions))
}

/// The schema's default, unless it is empty or the description has one.
fn default(about: &Value, words: &str) -> String {
    let is_value = |default: &&Value| match default {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    let default = about.get("default").filter(is_value).filter(|_| !words.contains("Default"));
    default.map(|default| format!(" [default: {default}]")).unwrap_or_default()
}
