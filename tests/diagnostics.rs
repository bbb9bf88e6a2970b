//! Every `tests/diagnostics/*.yaml` is a mistake people make; the `.expect` beside it is what they
//! are told. To add one, write the YAML and run with `UPDATE_EXPECT=1`, then read what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use moongate::control;
use moongate::diagnostics::Color;
use moongate::plugin::kinds::PLUGINS;
use moongate::snapshot::Kinds;
use std::path::Path;

/// What an operator is told about a file; nothing when it is good.
fn check_file(path: &Path) -> String {
    match control::check(path, Kinds { plugins: PLUGINS }, Color::Never) {
        Ok((_, _, warnings)) => warnings.unwrap_or_default(),
        Err(refusal) => refusal.report,
    }
}

#[test]
fn every_mistake_is_told_in_its_golden_words() {
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
