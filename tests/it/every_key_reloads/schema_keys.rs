//! The keys of a configuration file, from the JSON Schema that the binary prints. A key is the path of names to it:
//! `listeners.tls.certificates.cert`. Items of lists and names of upstreams are left out. The kinds of `balance` and
//! `health_check` are a part of the path, and keys themselves: `upstreams.balance.sticky.cookie`. So are the kinds of
//! `plugins`, without their settings.

use crate::support::moongate;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The settings of its kinds are not keys here: they have references of their own.
const PLUGINS: &str = "plugins";

pub(super) fn all() -> BTreeSet<String> {
    let printed = moongate(&["schema"]);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let root: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let mut keys = BTreeSet::new();
    collect(&root, &root, "", &mut keys);
    assert!(keys.len() > 150, "{}", keys.len());
    keys
}

/// Adds the keys of this schema, which is that of the key at `path`.
fn collect(root: &Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    if !schema.is_object() {
        return;
    }
    if let Some(target) = schema["$ref"].as_str() {
        collect(root, root.pointer(target.trim_start_matches('#')).unwrap(), path, keys);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys.insert(key.clone());
        // The entries of a route are those of the top level.
        if key != format!("routes.{PLUGINS}") {
            collect(root, below, &key, keys);
        }
    }
    collect(root, &schema["items"], path, keys);
    collect(root, &schema["additionalProperties"], path, keys);
    for word in ["anyOf", "oneOf", "allOf"] {
        let forms = schema[word].as_array().map_or(&[][..], Vec::as_slice);
        let kinds = kinds(forms);
        if kinds.is_empty() {
            forms.iter().for_each(|form| collect(root, form, path, keys));
        } else {
            collect_kinds(root, &kinds, path, keys);
        }
    }
}

/// The forms of kinds by their names.
fn kinds(forms: &[Value]) -> BTreeMap<&str, &Value> {
    let kind = |form: &'_ Value| form["properties"]["kind"]["const"].as_str().is_some();
    forms
        .iter()
        .filter(|form| kind(form))
        .map(|form| (form["properties"]["kind"]["const"].as_str().unwrap_or_default(), form))
        .collect()
}

/// Adds the keys of kinds: those of every kind once, and the others below the name of the kind.
fn collect_kinds(root: &Value, kinds: &BTreeMap<&str, &Value>, path: &str, keys: &mut BTreeSet<String>) {
    let of_kind = |form: &Value| {
        let mut own = BTreeSet::new();
        collect(root, form, "", &mut own);
        own
    };
    let all: Vec<_> = kinds.values().map(|form| of_kind(form)).collect();
    let shared: BTreeSet<_> = all[0].iter().filter(|key| all.iter().all(|own| own.contains(*key))).collect();
    keys.extend(shared.iter().map(|key| format!("{path}.{key}")));
    for (kind, own) in kinds.keys().zip(&all) {
        keys.insert(format!("{path}.{kind}"));
        if path == PLUGINS {
            continue;
        }
        keys.extend(own.iter().filter(|key| !shared.contains(key)).map(|key| format!("{path}.{kind}.{key}")));
    }
}
