//! `moongate kinds`: the available balancers, health checks and plugins, from the tables that compile them.

use super::{say, say_wrong};
use crate::snapshot::Kinds;
use crate::upstream;
use moongate_config::Kind;
use schemars::{Schema, SchemaGenerator};
use std::fmt::Write;
use std::process::ExitCode;

pub(super) fn main(kinds: &Kinds, name: Option<&str>) -> ExitCode {
    let mut text = String::new();
    list(&mut text, "balance", upstream::BALANCE, name);
    list(&mut text, "health_check", upstream::PROBES, name);
    list(&mut text, "plugins", kinds.plugins, name);
    match name {
        Some(name) if text.is_empty() => {
            say_wrong(&format!("error: unknown kind `{name}`; `moongate kinds` lists all kinds\n"));
            ExitCode::from(2)
        }
        _ => say(&text),
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
    let mut schema = schema(&mut generator).to_value();
    // A kind's schema may be a reference to its definition.
    if let Some(name) =
        schema.get("$ref").and_then(|path| path.as_str()?.rsplit('/').next().map(str::to_owned))
    {
        schema = generator.definitions().get(&name).cloned().unwrap_or_default();
    }
    let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) else {
        return;
    };
    for (setting, about) in properties {
        let words = about.get("description").and_then(|words| words.as_str()).unwrap_or_default();
        let default =
            about.get("default").map(|default| format!(" [default: {default}]")).unwrap_or_default();
        let _ = writeln!(text, "    {setting:<18} {}{default}", words.replace('\n', " "));
    }
}
