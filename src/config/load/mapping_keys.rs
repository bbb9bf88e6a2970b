//! Duplicate keys and merge keys (`<<`) of a YAML mapping.

use super::yaml_errors;
use moongate_config::{Key, Place, Problem, Value, ValueKind};
use std::collections::{HashMap, HashSet};

/// Mappings up to this size are searched linearly; larger ones are indexed.
const SMALL: usize = 16;

type Entries = Vec<(Key, Value)>;

/// The entries with merge keys resolved. A duplicate key is reported and dropped.
pub(super) fn resolve_merge_keys(entries: Entries, report: &mut dyn FnMut(Problem, &Place, &str)) -> Entries {
    if is_plain(&entries) {
        return entries;
    }
    let mut lines: HashMap<String, u32> = HashMap::with_capacity(entries.len());
    let mut merged = Vec::new();
    let mut kept = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if key.text == "<<" {
            merged.push(value);
        } else if let Some(line) = lines.get(&key.text) {
            let twice = yaml_errors::twice(&key.text).help(format!("first used at line {line}"));
            report(twice, &key.place, &key.text);
        } else {
            lines.insert(key.text.clone(), key.place.line);
            kept.push((key, value));
        }
    }
    let mut names: HashSet<String> = lines.into_keys().collect();
    for value in merged {
        merge(value, &mut kept, &mut names, report);
    }
    kept
}

/// Whether the mapping has neither duplicate nor merge keys, the usual case.
fn is_plain(entries: &Entries) -> bool {
    let name = |index: usize| entries[index].0.text.as_str();
    let mut seen = HashSet::new();
    let is_first = |index: usize| match entries.len() <= SMALL {
        true => (0..index).all(|before| name(before) != name(index)),
        false => seen.insert(name(index)),
    };
    entries.iter().all(|(key, _)| key.text != "<<") && (0..entries.len()).all(is_first)
}

/// `<<: *other` or `<<: [*one, *two]`: written keys have precedence, then earlier mappings.
fn merge(
    value: Value,
    kept: &mut Entries,
    names: &mut HashSet<String>,
    report: &mut dyn FnMut(Problem, &Place, &str),
) {
    match value.kind {
        ValueKind::Map(entries) => {
            kept.extend(entries.into_iter().filter(|(key, _)| names.insert(key.text.clone())));
        }
        ValueKind::List(items) => items.into_iter().for_each(|item| merge(item, kept, names, report)),
        _ => {
            let problem = Problem::new("`<<` needs a mapping, or a list of mappings");
            report(problem, &value.place, "<<");
        }
    }
}
