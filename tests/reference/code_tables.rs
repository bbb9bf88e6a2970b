//! Metrics, fields of the access log and errors, as the code describes them.

use super::table::{Cell, Row};
use moongate::proxy::Failure;
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn row(key: &str, cells: Vec<Cell>) -> Row {
    Row { key: key.to_owned(), cells }
}

fn words(text: impl Into<String>) -> Cell {
    Cell::Words(text.into())
}

/// Every family of the table in the source.
pub(crate) fn metrics() -> Vec<Row> {
    let source = read("src/telemetry/metrics/names.rs");
    let table = source.split("\nfamilies! {\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    let family =
        Regex::new(r#"= Shape::([A-Za-z]+)[^,]*,\s*"([a-z0-9_]+)"\s*\[([^\]]*)\],\s*"([^"]*)";"#).unwrap();
    let rows: Vec<_> = family
        .captures_iter(table)
        .map(|found| {
            let labels = found[3].replace('"', "");
            row(&found[2], vec![words(labels), words(found[1].to_lowercase()), words(&found[4])])
        })
        .collect();
    assert_eq!(rows.len(), table.matches("= Shape::").count(), "a family is written in another way");
    rows
}

/// The fields of the JSON Schema, in the order of a line.
pub(crate) fn access_log_fields() -> Vec<Row> {
    let output = Command::new(env!("CARGO_BIN_EXE_moongate")).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).expect("`moongate schema` prints JSON");
    let fields = schema["$defs"]["Field"]["oneOf"].as_array().expect("the schema has the fields");
    let about = |field: &Value| {
        let text = field["description"].as_str().unwrap().replace('\n', " ");
        text.strip_suffix('.').unwrap_or(&text).to_owned()
    };
    fields.iter().map(|field| row(field["const"].as_str().unwrap(), vec![words(about(field))])).collect()
}

/// Causes of new rows: the comments of the variants.
fn causes() -> HashMap<String, String> {
    let source = read("src/proxy/failure.rs");
    let variants = source.split("pub enum Failure {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let comment = Regex::new(r"((?:\s*///[^\n]*\n)+)\s*([A-Z][A-Za-z0-9]*)").unwrap();
    let comments: HashMap<String, String> = comment
        .captures_iter(variants)
        .map(|found| {
            let lines = found[1].lines().map(|line| line.trim().trim_start_matches("///").trim());
            (found[2].to_owned(), lines.collect::<Vec<_>>().join(" ").trim().to_owned())
        })
        .collect();
    let token = Regex::new(r#"Self::([A-Za-z0-9]+)(?:\(_\))? => \([0-9]+, "([a-z0-9_]+)""#).unwrap();
    let causes = token.captures_iter(&source).map(|found| (found[2].to_owned(), comments[&found[1]].clone()));
    causes.collect()
}

fn failures(has_response: bool) -> impl Iterator<Item = Failure> {
    Failure::ALL.into_iter().filter(move |failure| failure.status().is_some() == has_response)
}

/// Cause and remedy are words of the page.
pub(crate) fn errors_with_a_response() -> Vec<Row> {
    let causes = causes();
    let rows = failures(true).map(|failure| {
        let cause = Cell::OfThePage(causes[failure.token()].clone());
        let remedy = Cell::OfThePage(String::new());
        row(failure.token(), vec![words(failure.row().status.to_string()), cause, remedy])
    });
    rows.collect()
}

pub(crate) fn errors_without_a_response() -> Vec<Row> {
    let causes = causes();
    let cells = |cause: &str| {
        vec![Cell::OfThePage("0, or the status already sent".to_owned()), Cell::OfThePage(cause.to_owned())]
    };
    let mut rows: Vec<_> =
        failures(false).map(|failure| row(failure.token(), cells(&causes[failure.token()]))).collect();
    // Of a WebSocket, which has no failed request.
    rows.push(row("reconnect_failed", cells("No other endpoint accepted.")));
    rows
}
