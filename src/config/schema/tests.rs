#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use moongate_config::{Period, Problems, Settings};
use schemars::JsonSchema;

#[derive(JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is wanted")]
struct Probe {
    /// The path asked for.
    path: String,
    #[serde(default)]
    every: Option<Period>,
}

fn build(_: &Settings) -> Result<Box<()>, Problems> {
    Ok(Box::new(()))
}

fn tables() -> Vec<KindTable> {
    let http = Kind { name: "http", about: "Asks.", schema: SchemaGenerator::subschema_for::<Probe>, build };
    let tcp = Kind { name: "tcp", about: "Connects.", schema: |_| schemars::json_schema!({}), build };
    vec![
        KindTable::new("health_check", &[http, tcp]),
        KindTable::new(
            "plugins",
            &[Kind { name: "a", about: "A.", schema: |_| schemars::json_schema!({}), build }],
        ),
    ]
}

#[test]
fn kinds_replace_the_generic_entry_of_the_model() {
    let schema = schema(&tables());
    let check = &schema["$defs"]["Upstream"]["properties"]["health_check"]["anyOf"][0]["oneOf"];
    assert_eq!(check[0], json!({ "const": "http", "description": "Asks." }));
    assert_eq!(check[2]["properties"]["kind"]["const"], "http");
    assert_eq!(check[2]["properties"]["path"]["description"], "The path asked for.");
    assert_eq!(check[2]["required"], json!(["kind", "path"]));
    assert_eq!(check[2]["additionalProperties"], false);
    assert_eq!(schema["$defs"]["PluginEntry"]["oneOf"][1]["properties"]["name"]["type"], "string");
}

#[test]
fn every_reference_resolves() {
    fn walk(value: &Value, root: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(path) = object.get("$ref").and_then(Value::as_str) {
                    assert!(root.pointer(path.trim_start_matches('#')).is_some(), "{path}");
                }
                object.values().for_each(|value| walk(value, root));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, root)),
            _ => {}
        }
    }
    let schema = schema(&tables());
    walk(&schema, &schema);
}

#[test]
fn variables_and_includes_are_valid_in_the_schema() {
    let schema = schema(&[]);
    let threads = &schema["$defs"]["Server"]["properties"]["threads"];
    assert!(threads["type"].as_array().unwrap().contains(&json!("string")), "{threads}");
    assert_eq!(threads["pattern"], "\\$\\{");
    assert!(schema["properties"]["include"].is_object());
    assert!(schema["patternProperties"]["^x-"].is_object());
    assert_eq!(schema["additionalProperties"], false);
}
