//! Tests of upstreams by a list run a second time with the lists in files of a discovery: what holds for one holds for the
//! other. [`both_kinds!`](crate::both_kinds) names the tests of a module.

use super::{Gateway, eventually};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// A module `discovered` in which each of these tests runs with `discovery: { kind: file }` in place of `endpoints`.
#[macro_export]
macro_rules! both_kinds {
    ($($test:ident),+ $(,)?) => {
        mod discovered {
            $(#[test]
            fn $test() {
                $crate::support::discovered::run(super::$test);
            })+
        }
    };
}

/// Runs a test whose gateways have files of a discovery in place of their lists.
pub(crate) fn run(test: fn()) {
    IS_ON.set(true);
    test();
    IS_ON.set(false);
}

/// The beginning of a list in a configuration.
const LIST: &str = "endpoints: [";

/// A configuration whose lists are written to files in `folder`, while the tests run with a discovery.
pub(crate) fn configuration(folder: &Path, yaml: &str) -> String {
    if !IS_ON.get() {
        return yaml.to_owned();
    }
    let (mut text, mut rest, mut number) = (String::new(), yaml, 0);
    while let Some((before, list)) = rest.split_once(LIST) {
        let entries = entries(list);
        let lines: String = entries.iter().map(|entry| format!("- {}\n", entry.trim())).collect();
        let name = format!("endpoints-{number}.list");
        let part = folder.join("endpoints.part");
        fs::write(&part, if lines.is_empty() { "[]\n".to_owned() } else { lines }).unwrap();
        fs::rename(part, folder.join(&name)).unwrap();
        text.push_str(&format!("{before}discovery: {{ kind: file, path: {name} }}"));
        let length = entries.iter().map(|entry| entry.len() + 1).sum::<usize>().max(1);
        (rest, number) = (&list[length..], number + 1);
    }
    text + rest
}

/// The entries of the list that the text begins with, up to its bracket.
fn entries(list: &str) -> Vec<&str> {
    let (mut entries, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' | '[' => depth += 1,
            ']' if depth == 0 => {
                if !list[start..at].trim().is_empty() {
                    entries.push(&list[start..at]);
                }
                return entries;
            }
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    panic!("a list without an end: {list}");
}

/// Address, weight, whether it is marked, and limit.
type Facts = (String, u64, bool, Option<u64>);

fn facts(entry: &str) -> Facts {
    let value = |key: &str| {
        let after = entry.split_once(&format!("{key}:"))?.1.trim_start();
        Some(after.split([',', ' ', '}']).next()?.trim_matches(['\'', '"']).to_owned())
    };
    let number = |key| value(key).and_then(|text| text.parse().ok());
    let address = value("address").unwrap_or_else(|| entry.trim().trim_matches(['\'', '"']).to_owned());
    (
        address,
        number("weight").unwrap_or(1),
        value("drain").as_deref() == Some("true"),
        number("max_connections"),
    )
}

/// Waits until the gateway has the endpoints of its files.
pub(crate) fn await_endpoints(gateway: &Gateway, folder: &Path) {
    if !IS_ON.get() {
        return;
    }
    eventually("the endpoints of the files", || {
        let status = gateway.status();
        let upstreams = status["upstreams"].as_object()?;
        let is_current = |upstream: &serde_json::Value| {
            let Some(source) = upstream["discovery"]["source"].as_str() else { return true };
            let name = source.strip_prefix("file ").unwrap();
            let text = fs::read_to_string(folder.join(name)).unwrap();
            let wanted: BTreeSet<_> =
                text.lines().filter_map(|line| line.strip_prefix("- ")).map(facts).collect();
            let is_member = |endpoint: &&serde_json::Value| {
                !matches!(endpoint["draining"].as_str(), Some("absent" | "removed"))
            };
            let endpoints = upstream["endpoints"].as_array().unwrap().iter().filter(is_member);
            let known: BTreeSet<Facts> = endpoints
                .map(|endpoint| {
                    (
                        endpoint["address"].as_str().unwrap().to_owned(),
                        endpoint["weight"].as_u64().unwrap(),
                        endpoint["draining"] == "marked",
                        endpoint["max_connections"].as_u64(),
                    )
                })
                .collect();
            known == wanted
        };
        upstreams.values().all(is_current).then_some(())
    });
}
