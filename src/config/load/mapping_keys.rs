//! The keys of one mapping: none twice, and merge keys (`<<`) written out.

use super::yaml_errors;
use moongate_config::{Key, Place, Problem, Value, ValueKind};
use std::collections::{HashMap, HashSet};

/// Mappings up to this size are searched rather than indexed.
const SMALL: usize = 16;

type Entries = Vec<(Key, Value)>;

/// The entries with merge keys written out. A repeated key is complained of and dropped.
pub(super) fn resolve_merge_keys(
    entries: Entries,
    complain: &mut dyn FnMut(Problem, &Place, &str),
) -> Entries {
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
            let twice = yaml_errors::twice(&key.text).help(format!("first given at line {line}"));
            complain(twice, &key.place, &key.text);
        } else {
            lines.insert(key.text.clone(), key.place.line);
            kept.push((key, value));
        }
    }
    let mut names: HashSet<String> = lines.into_keys().collect();
    for value in merged {
        merge(value, &mut kept, &mut names, complain);
    }
    kept
}

/// Whether there is nothing to do, as nearly always.
fn is_plain(entries: &Entries) -> bool {
    let name = |index: usize| entries[index].0.text.as_str();
    let mut seen = HashSet::new();
    let is_first = |index: usize| match entries.len() <= SMALL {
        true => (0..index).all(|before| name(before) != name(index)),
        false => seen.insert(name(index)),
    };
    entries.iter().all(|(key, _)| key.text != "<<") && (0..entries.len()).all(is_first)
}

/// `<<: *other` or `<<: [*one, *two]`: keys that are written out win, then earlier ones.
fn merge(
    value: Value,
    kept: &mut Entries,
    names: &mut HashSet<String>,
    complain: &mut dyn FnMut(Problem, &Place, &str),
) {
    match value.kind {
        ValueKind::Map(entries) => {
            kept.extend(entries.into_iter().filter(|(key, _)| names.insert(key.text.clone())));
        }
        ValueKind::List(items) => items.into_iter().for_each(|item| merge(item, kept, names, complain)),
        _ => {
            let problem = Problem::new("`<<` merges a mapping, or a list of them");
            complain(problem, &value.place, "<<");
        }
    }
}
