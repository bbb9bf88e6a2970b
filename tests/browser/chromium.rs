//! Chromium as a requirement of the tests.

use std::path::{Path, PathBuf};

/// The path of Chromium, if it and all of `paths` exist. A skipped test is reported.
pub(crate) fn installed(test: &str, paths: &[&Path]) -> Option<PathBuf> {
    let Some(program) = program() else {
        skipped(test, "Chromium is missing");
        return None;
    };
    let missing: Vec<_> = paths.iter().filter(|path| !path.exists()).collect();
    if !missing.is_empty() {
        skipped(test, &format!("{missing:?} is missing"));
        return None;
    }
    Some(program)
}

/// Reports a test that cannot run.
pub(crate) fn skipped(test: &str, reason: &str) {
    #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
    {
        eprintln!("{test} is not run: {reason}; `.ci/tools browser` installs it");
    }
}

/// `$CHROMIUM` or `chromium`, on the PATH unless it is a path itself.
fn program() -> Option<PathBuf> {
    let name = std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("chromium"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    // `join` returns an absolute name unchanged.
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|program| program.is_file())
}
