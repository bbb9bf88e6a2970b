//! Every kind of every table: a unique name, a description, a settings schema, and an example in conf/kinds
//! that the gateway accepts.

use crate::support::moongate;
use moongate::plugin::kinds::PLUGINS;
use moongate::upstream::{BALANCE, DISCOVERY, PROBES};
use moongate_config::Kind;
use schemars::SchemaGenerator;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn examples(group: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/kinds").join(group)
}

fn hold<T: ?Sized>(group: &str, table: &[Kind<T>]) {
    let folder = examples(group);
    let mut names = BTreeSet::new();
    for kind in table {
        let name = kind.name;
        assert!(names.insert(name.to_owned()), "two kinds of {group} are called {name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        let sentence = kind.about.contains(' ') && kind.about.starts_with(char::is_uppercase);
        assert!(sentence, "{group}/{name} says no sentence: {:?}", kind.about);
        let schema = (kind.schema)(&mut SchemaGenerator::default());
        assert!(schema.as_object().is_some(), "{group}/{name} has no schema");

        let file = folder.join(format!("{name}.yaml"));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let used = text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(name));
        assert!(used, "{} does not use {name}", file.display());
        let output = moongate(&["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", file.display());
    }
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, names, "the examples of {group} and its kinds");
}

#[test]
fn every_balance_kind_is_complete() {
    hold("balance", BALANCE);
}

#[test]
fn every_probe_is_complete() {
    hold("health", PROBES);
}

#[cfg(feature = "redis")]
#[test]
fn every_store_is_complete() {
    hold("stores", moongate::limit::STORES);
}

#[test]
fn every_source_is_complete() {
    hold("sources", moongate::source::SOURCES);
}

#[test]
fn every_discovery_is_complete() {
    hold("discovery", DISCOVERY);
}

#[test]
fn every_plugin_is_complete() {
    hold("plugins", PLUGINS);
}
