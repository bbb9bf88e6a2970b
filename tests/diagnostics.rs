//! Diagnostics of configuration errors: every `tests/diagnostics/*.yaml` is a common mistake, and the
//! `.expect` file beside it is its report. To add one, write the YAML, run with `UPDATE_EXPECT=1`, and read
//! the report.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use moongate::control;
use moongate::diagnostics::Color;
use moongate::plugin::kinds::PLUGINS;
use moongate::snapshot::Kinds;
use std::path::Path;

/// The report about a file; empty if it is valid.
fn check_file(path: &Path) -> String {
    match control::check(path, Kinds { plugins: PLUGINS }, Color::Never) {
        Ok((_, _, warnings)) => warnings.unwrap_or_default(),
        Err(refusal) => refusal.report,
    }
}

#[test]
fn every_mistake_gets_its_golden_report() {
    let mut files: Vec<_> = std::fs::read_dir("tests/diagnostics")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 25, "the golden files are gone");
    let mut wrong = Vec::new();
    for file in files {
        let told = check_file(&file);
        let golden = file.with_extension("expect");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&golden, &told).unwrap();
        } else if std::fs::read_to_string(&golden).ok().as_ref() != Some(&told) {
            wrong.push(format!("{} says:\n{told}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_EXPECT=1 takes these as they are", wrong.join("\n"));
}
