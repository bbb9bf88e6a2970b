//! Real applications behind the real gateway, with the configuration of docs/guides/apps/.
//!
//! `make apps` installs the applications (below target/apps, and Debian's packages) and runs these tests. A
//! test whose application is missing is skipped with a message. Each test has a loopback address of its own.

// Only Linux treats every address of 127.0.0.0/8 as local.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod application;
mod browser;
mod gradio;
mod guide;
mod jupyter;
mod novnc;
mod npm;
mod octoprint;
#[allow(dead_code, reason = "the pages' own tests use more of it")]
#[path = "../docs/page.rs"]
mod page;
mod rabbitmq;
mod recipes;
mod sockjs;
mod streamlit;
#[allow(dead_code, unused_imports, reason = "the gateway's own tests use more of it")]
#[path = "../it/support/mod.rs"]
mod support;
mod yjs;

/// The page of every application has a test with its name.
#[test]
fn every_page_is_tested() {
    let tests = include_str!("main.rs");
    let pages = page::pages();
    let names: Vec<_> = pages
        .iter()
        .filter_map(|page| page.name.strip_prefix("docs/guides/apps/")?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("\nmod {name};\n")), "docs/guides/apps/{name}.md has no test");
    }
}

/// Every example with a README has a test.
#[test]
fn every_example_is_tested() {
    let tests = [
        include_str!("recipes.rs"),
        include_str!("sockjs.rs"),
        // With a machine: `make packages-test`.
        include_str!("../packages/test_recipes.py"),
    ]
    .concat();
    let pages = page::pages();
    let names =
        pages.iter().filter_map(|page| page.name.strip_prefix("examples/")?.strip_suffix("/README.md"));
    let missing: Vec<_> = names
        .filter(|name| {
            !tests.contains(&format!("\"{name}\"")) && !tests.contains(&format!("\"examples/{name}\""))
        })
        .collect();
    assert!(missing.is_empty(), "no test runs {missing:?}");
}
