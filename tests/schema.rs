//! What an editor with our JSON Schema says: yes to every file of `conf/`, no to the usual mistakes.
//!
//! The validator knows the words our schema uses and stops at any other, so that it cannot lag behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn schema() -> Value {
    let tables = moongate::snapshot::tables(moongate::plugin::kinds::PLUGINS);
    moongate::config::schema(&tables)
}

/// Why `value` does not fit, or nothing.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Value::Object(words) = schema else {
        return (*schema == json!(false)).then(|| format!("{value} is not allowed"));
    };
    words.iter().find_map(|(word, meaning)| misfit_word(root, schema, word, meaning, value))
}

fn misfit_word(root: &Value, schema: &Value, word: &str, meaning: &Value, value: &Value) -> Option<String> {
    let fails = |fits: bool| (!fits).then(|| format!("{value} does not fit {word} {meaning}"));
    let fitting = |forms: &Value| {
        forms.as_array().unwrap().iter().filter(|form| misfit(root, form, value).is_none()).count()
    };
    let number = |value: &Value| value.as_f64().unwrap();
    match word {
        "$ref" => misfit(root, root.pointer(meaning.as_str()?.trim_start_matches('#')).unwrap(), value),
        "type" => {
            fails(meaning.as_array().unwrap_or(&vec![meaning.clone()]).iter().any(|kind| is(value, kind)))
        }
        "const" => fails(value == meaning),
        "enum" => fails(meaning.as_array().unwrap().contains(value)),
        "anyOf" => fails(fitting(meaning) > 0),
        "oneOf" => fails(fitting(meaning) == 1),
        "allOf" => meaning.as_array().unwrap().iter().find_map(|form| misfit(root, form, value)),
        "minimum" => fails(!value.is_number() || number(value) >= number(meaning)),
        "maximum" => fails(!value.is_number() || number(value) <= number(meaning)),
        "pattern" => {
            let pattern = regex::Regex::new(meaning.as_str()?).unwrap();
            value.as_str().and_then(|text| fails(pattern.is_match(text)))
        }
        "items" => value.as_array()?.iter().find_map(|item| misfit(root, meaning, item)),
        "required" => {
            let object = value.as_object()?;
            let missing =
                meaning.as_array()?.iter().find(|key| !object.contains_key(key.as_str().unwrap()))?;
            Some(format!("{value} lacks {missing}"))
        }
        "properties" => {
            let object = value.as_object()?;
            object.iter().find_map(|(key, value)| misfit(root, meaning.get(key)?, value))
        }
        "additionalProperties" => {
            let known = |key: &str| {
                schema["properties"].get(key).is_some()
                    || schema.get("patternProperties").is_some() && key.starts_with("x-")
            };
            let mut unknown = value.as_object()?.iter().filter(|(key, _)| !known(key));
            unknown.find_map(|(key, value)| misfit(root, meaning, value).map(|why| format!("{key}: {why}")))
        }
        "$defs" | "$schema" | "title" | "description" | "default" | "format" | "patternProperties" => None,
        other => panic!("the schema uses {other}"),
    }
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the schema uses type {other}"),
    }
}

/// The file as an editor reads it.
fn yaml(text: &str) -> Value {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

#[test]
fn editors_accept_every_file_of_conf() {
    let mut files = Vec::new();
    files_below(Path::new("conf"), &mut files);
    let schema = schema();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(misfit(&schema, &schema, &yaml(&text)), None, "{}", file.display());
    }
}

#[test]
fn editors_accept_what_an_operator_may_write() {
    let text = r#"
include: [conf.d/*.yaml]
x-common: &common { timeout: 0, methods: [GET] }
server:
  threads: ${THREADS}
  grace_period: 1h30m
  max_header_size: 65536
  via: off
access_log: off
listeners: [{ name: web, address: "0.0.0.0:80" }]
upstreams:
  a:
    endpoints: [127.0.0.1:1, { address: 127.0.0.1:2, weight: 2 }]
    balance: p2c
    health_check: { kind: http, path: /x }
routes:
  - { upstream: a, <<: *common, host: ["*.a.b", c], path: /x, headers: { x-beta: "1" } }
  - { upstream: [127.0.0.1:3], websocket: { idle_timeout: 1h }, plugins: [request_id, { kind: request_id, name: z, header: X-Id }] }
  - { upstream: { a: 9, b: 1 } }
"#;
    let schema = schema();
    // YAML 1.1 readers take `off` for a truth; the schema is for YAML 1.2, as serde_yaml is.
    assert_eq!(misfit(&schema, &schema, &yaml(text)), None);
    let text = text.replace("include: [conf.d/*.yaml]\n", "");
    assert!(moongate::config::load_text("x", &text, &|_| Some("4".to_owned())).is_ok());
}

#[test]
fn editors_see_the_usual_mistakes() {
    let schema = schema();
    for mistake in [
        "unknown_key",
        "missing_key",
        "wrong_type",
        "list_of_one",
        "number_out_of_range",
        "duration_without_unit",
        "boolean_as_yaml_1_1",
        "unknown_choice",
        "top_level_list",
        "kind_entries",
        "endpoint_shapes",
    ] {
        let text = std::fs::read_to_string(format!("tests/diagnostics/{mistake}.yaml")).unwrap();
        assert!(misfit(&schema, &schema, &yaml(&text)).is_some(), "{mistake}");
    }
}

/// Every key that takes a length of time, wherever it is, with its description.
fn periods(schema: &Value, at: &str, found: &mut Vec<(String, String)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, property) in properties {
            let forms = [property, &property["anyOf"][0], &property["allOf"][0]];
            if forms.iter().any(|form| form["$ref"] == "#/$defs/Period") {
                let about = property["description"].as_str().unwrap_or_default();
                found.push((format!("{at}.{key}"), about.to_owned()));
            }
        }
    }
    match schema {
        Value::Object(words) => {
            for (word, below) in words {
                periods(below, &format!("{at}.{word}"), found);
            }
        }
        Value::Array(forms) => forms.iter().for_each(|below| periods(below, at, found)),
        _ => {}
    }
}

#[test]
fn every_length_of_time_says_what_none_means() {
    let mut found = Vec::new();
    periods(&schema(), "", &mut found);
    assert!(found.len() > 40, "{}", found.len());
    let says = |about: &str| {
        let about = about.replace('\n', " ");
        ["`0s`", "Default 0s", "onger than 0", "t least ", "ms to "].iter().any(|words| about.contains(words))
    };
    let silent: Vec<_> = found.into_iter().filter(|(_, about)| !says(about)).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
