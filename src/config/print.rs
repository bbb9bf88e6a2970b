//! The effective configuration as YAML, with defaults; it can be loaded again.

use super::model::Config;
use moongate_config::{Settings, Value, ValueKind, escape_dollars};

/// Marks an unquoted number in an unusual spelling (`1.50`, `007`), which serde_yaml would quote or respell.
/// This private-use character is removed from the finished text.
const ODD: char = '\u{e000}';

/// Makes serde_yaml write text in double quotes, because the character is not printable. It is removed from
/// the finished text in its escaped form.
const QUOTED: char = '\u{fffe}';
const QUOTED_WRITTEN: &str = "\"\\uFFFE";

/// Writes a configuration with every default that does not depend on other keys, as `protocols` of a listener
/// depends on `tls`. Loading the text again gives an equal [`Config`].
///
/// Paths are written as they were. In a file from another folder they are relative to that folder, so they
/// break if the text is loaded in place of the including file.
///
/// Values from the environment are written out, secrets too.
pub fn print(spec: &Config) -> String {
    print_changed(spec, |_| {})
}

/// Writes a configuration after a change of its values.
pub(super) fn print_changed(spec: &Config, change: impl FnOnce(&mut serde_yaml::Value)) -> String {
    let mut spec = spec.clone();
    for settings in every_settings(&mut spec) {
        mark(&mut settings.value);
    }
    // Serializing to memory fails only for values that a configuration cannot hold.
    let text = serde_yaml::to_value(&spec).and_then(|mut tree| {
        change(&mut tree);
        escape_values(&mut tree);
        serde_yaml::to_string(&tree)
    });
    text.unwrap_or_else(|error| format!("# {error}\n")).replace(ODD, "").replace(QUOTED_WRITTEN, "\"")
}

/// Doubles dollars in values; keys have no variables.
fn escape_values(tree: &mut serde_yaml::Value) {
    match tree {
        serde_yaml::Value::String(text) => {
            *text = escape_dollars(text);
            // In single quotes, YAML 1.1 treats these as line breaks and indents the rest.
            if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
                text.insert(0, QUOTED);
            }
        }
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(escape_values),
        serde_yaml::Value::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| escape_values(value)),
        serde_yaml::Value::Tagged(tagged) => escape_values(&mut tagged.value),
        serde_yaml::Value::Null | serde_yaml::Value::Bool(_) | serde_yaml::Value::Number(_) => {}
    }
}

fn every_settings(spec: &mut Config) -> impl Iterator<Item = &mut Settings> {
    let kinds = spec.upstreams.values_mut().flat_map(|upstream| {
        let upstream = &mut upstream.value;
        upstream.balance.iter_mut().chain(upstream.health_check.iter_mut()).map(|entry| &mut entry.settings)
    });
    let routes = spec.routes.iter_mut().flat_map(|route| route.value.plugins.iter_mut());
    let plugins = routes.chain(spec.plugins.iter_mut()).map(|entry| &mut entry.value.settings);
    kinds.chain(plugins)
}

fn mark(value: &mut Value) {
    if value.is_odd_number() {
        if let ValueKind::Scalar { text, .. } = &mut value.kind {
            text.insert(0, ODD);
        }
        return;
    }
    match &mut value.kind {
        ValueKind::List(items) => items.iter_mut().for_each(mark),
        ValueKind::Map(entries) => entries.iter_mut().for_each(|(_, value)| mark(value)),
        ValueKind::Null | ValueKind::Scalar { .. } => {}
    }
}

#[cfg(test)]
mod tests;
