//! Reference tests: the tables of `docs/reference/` equal the code that knows them, in both directions.
//!
//! A comment `<!-- keys: NAME -->` above a table binds it to the settings that `moongate schema` calls NAME. The words of a
//! row are those of the schema; its links are the page's own. Metrics, fields of the access log and errors are compared
//! likewise, without a comment. `UPDATE_EXPECT=1 cargo test --features full --test reference` rewrites the rows that differ,
//! adds the missing ones below those that precede them in the code, and removes the others.

// Without both hosts, their kinds are not in the schema.
#![cfg(all(feature = "luau", feature = "wasm"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "reference/code_tables.rs"]
mod code_tables;
#[path = "reference/host_functions.rs"]
mod host_functions;
#[path = "reference/settings.rs"]
mod settings;
#[path = "reference/table.rs"]
mod table;

use settings::{Setting, Settings};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use table::Part;

/// The pages with tables of keys.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("docs/reference/configuration.md")];
    let plugins = std::fs::read_dir("docs/reference/plugins").unwrap();
    pages.extend(plugins.map(|entry| entry.unwrap().path()));
    pages.sort();
    pages
}

fn updates() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1")
}

#[test]
fn every_table_of_keys_equals_the_schema() {
    let settings = Settings::of_the_binary();
    let mut stale = Vec::new();
    let mut described = BTreeSet::new();
    for path in pages() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut updated = Vec::new();
        for part in table::parts(&text) {
            match part {
                Part::Text(lines) => updated.extend(lines),
                Part::Table { name, line, rows } => {
                    let place = format!("{}:{line}: `{name}`", path.display());
                    let code: Vec<_> = settings.named(&name).into_iter().map(Setting::row).collect();
                    assert!(!code.is_empty(), "{place} is not in the schema");
                    let (rows, reasons) = table::reconcile(&rows, &code);
                    updated.extend(rows);
                    stale.extend(reasons.into_iter().map(|reason| format!("{place}: {reason}")));
                    assert!(described.insert(name), "{place} has a second table");
                }
            }
        }
        if updates() {
            std::fs::write(&path, updated.join("\n") + "\n").unwrap();
        }
    }
    assert!(stale.is_empty() || updates(), "UPDATE_EXPECT=1 updates these rows:\n{}", stale.join("\n"));
    let missing: Vec<_> = settings.names().into_iter().filter(|name| !described.contains(name)).collect();
    assert!(missing.is_empty(), "no page has a table with `<!-- keys: … -->` for {missing:?}");
}

/// `(page, setting)`: a comment `<!-- kinds: … -->` above a table whose first column names every kind.
const KINDS: [(&str, &str); 4] = [
    ("docs/reference/plugins/README.md", "plugins"),
    ("docs/reference/configuration.md", "balance"),
    ("docs/reference/configuration.md", "health_check"),
    ("docs/reference/configuration.md", "discovery"),
];

#[test]
fn every_kind_is_in_the_table_of_its_page() {
    let settings = Settings::of_the_binary();
    for (page, setting) in KINDS {
        let text = std::fs::read_to_string(page).unwrap();
        let marker = format!("<!-- kinds: {setting} -->");
        let table = text.split(&marker).nth(1).unwrap_or_else(|| panic!("{page} has no {marker}"));
        let rows =
            table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let written: BTreeSet<String> =
            rows.skip(2).map(|row| row.split('`').nth(1).unwrap_or_default().to_owned()).collect();
        assert_eq!(written, settings.kinds(setting).into_keys().collect(), "{page}: {setting}");
    }
}

#[test]
fn the_plugin_list_has_the_descriptions_of_moongate_kinds() {
    let page = std::fs::read_to_string("docs/reference/plugins/README.md").unwrap();
    for (kind, about) in Settings::of_the_binary().kinds("plugins") {
        let row = format!("| [`{kind}`]({kind}.md) | {} |", about.trim_end_matches('.'));
        assert!(page.contains(&row), "docs/reference/plugins/README.md has no row\n{row}");
        let own = format!("docs/reference/plugins/{kind}.md");
        assert!(Path::new(&own).exists(), "{own} is missing");
    }
}

/// `(page, head of its tables, their rows)`.
type CodeTable = (&'static str, &'static str, fn() -> Vec<table::Row>);

const CODE_TABLES: [CodeTable; 4] = [
    ("docs/reference/metrics.md", "| name | labels | type | meaning |", code_tables::metrics),
    ("docs/reference/access-log.md", "| Field | Meaning |", code_tables::access_log_fields),
    ("docs/reference/errors.md", "| reason | status | cause | remedy |", code_tables::errors_with_a_response),
    ("docs/reference/errors.md", "| error | `status` | cause |", code_tables::errors_without_a_response),
];

#[test]
fn every_table_of_metrics_log_fields_and_errors_equals_the_code() {
    let mut stale = Vec::new();
    for (path, head, rows) in CODE_TABLES {
        let page = std::fs::read_to_string(path).unwrap();
        let (updated, reasons) = table::reconcile_page(&page, head, rows());
        stale.extend(reasons.into_iter().map(|reason| format!("{path}: {reason}")));
        if updates() {
            std::fs::write(path, updated).unwrap();
        }
    }
    assert!(stale.is_empty() || updates(), "UPDATE_EXPECT=1 updates these rows:\n{}", stale.join("\n"));
}
