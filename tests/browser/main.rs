//! Tests with a real browser, Debian's headless Chromium. Each program `tests/browser/NAME.mjs` that uses `node:test`
//! drives it with playwright-core and is one test.
//!
//! `make browser` installs Chromium and the packages, and runs these tests. A test whose requirements are missing
//! is skipped with a message.

// The processes of a program are ended as a group.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod chromium;
mod h2_websocket;
mod program;
#[allow(dead_code, unused_imports, reason = "the gateway's own tests use more of it")]
#[path = "../it/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

macro_rules! programs {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { program::run(stringify!($test), $name); })*

        const PROGRAMS: &[&str] = &[$($name),*];
    };
}

programs! {
    the_live_page_works_in_chromium: "page.mjs",
    the_live_page_follows_a_real_gateway: "live.mjs",
    the_sockjs_example_works_in_chromium: "sockjs.mjs",
}

#[test]
fn no_program_is_left_out() {
    let files = std::fs::read_dir(program::folder()).unwrap().map(|entry| entry.unwrap().path());
    let uses_the_runner = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "mjs")
            && std::fs::read_to_string(path).unwrap().contains(r#"from "node:test""#)
    };
    let there: BTreeSet<_> = files
        .filter(uses_the_runner)
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, PROGRAMS.iter().map(|&name| name.to_owned()).collect());
}
