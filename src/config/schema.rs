//! JSON Schema of the configuration, for editors: the model's types, and the settings of every kind.

use super::model::Config;
use moongate_config::Kind;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

/// One kind in the schema.
struct Row {
    name: &'static str,
    about: &'static str,
    schema: fn(&mut SchemaGenerator) -> schemars::Schema,
}

/// The kinds of one setting.
pub struct KindTable {
    setting: &'static str,
    rows: Vec<Row>,
}

impl KindTable {
    /// The kinds of `setting`: `balance`, `health_check`, `discovery`, `stores`, `sources` or `plugins`.
    pub fn new<T: ?Sized>(setting: &'static str, kinds: &[Kind<T>]) -> Self {
        let row = |kind: &Kind<T>| Row { name: kind.name, about: kind.about, schema: kind.schema };
        Self { setting, rows: kinds.iter().map(row).collect() }
    }

    /// The setting.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// The kinds whose settings have this name among them.
    pub fn kinds_with(&self, name: &str) -> Vec<&'static str> {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut has = |row: &&Row| {
            let settings = (row.schema)(&mut generator);
            has_property(&resolve(settings.to_value(), &mut generator), name)
        };
        self.rows.iter().filter(|row| has(row)).map(|row| row.name).collect()
    }

    /// The schema of an entry: a name alone, or a mapping with `kind` and the kind's settings.
    fn entry(&self, generator: &mut SchemaGenerator) -> Value {
        let names = self.rows.iter().map(|row| json!({ "const": row.name, "description": row.about }));
        let mut forms: Vec<Value> = names.collect();
        for row in &self.rows {
            let settings = (row.schema)(generator);
            let settings = resolve(settings.to_value(), generator);
            forms.push(self.full(row, settings));
        }
        json!({ "oneOf": forms })
    }

    fn full(&self, row: &Row, settings: Value) -> Value {
        let mut own = Map::new();
        own.insert("kind".to_owned(), json!({ "const": row.name, "description": row.about }));
        if self.setting == "plugins" {
            let name = json!({ "type": "string", "description": "Names the entry in logs and metrics. Default the kind." });
            own.insert("name".to_owned(), name);
            let on_error = json!({
                "enum": ["closed", "open"],
                "default": "closed",
                "description": "Ends the request with 500 (`closed`) or continues without the plugin (`open`) when it fails. Default closed."
            });
            own.insert("on_error".to_owned(), on_error);
            let when = json!({
                "type": "string",
                "description": "Runs the plugin only for requests for which this expression is true. Default all requests."
            });
            own.insert("when".to_owned(), when);
            let owned_headers = json!({
                "type": "array",
                "items": { "type": "string" },
                "description": "Removes these request fields, in every spelling, from client requests. Default those that the kind owns."
            });
            own.insert("owned_headers".to_owned(), owned_headers);
        }
        match settings {
            Value::Object(mut object) if !object.contains_key("anyOf") && !object.contains_key("oneOf") => {
                object.insert("type".to_owned(), json!("object"));
                object.insert("title".to_owned(), json!(row.name));
                object.entry("description").or_insert_with(|| json!(row.about));
                let properties = object.entry("properties").or_insert_with(|| json!({}));
                if let Value::Object(properties) = properties {
                    own.append(properties);
                    *properties = own;
                }
                let required = object.entry("required").or_insert_with(|| json!([]));
                if let Value::Array(required) = required {
                    required.insert(0, json!("kind"));
                }
                Value::Object(object)
            }
            // Settings with several forms cannot contain `kind`, so it is required beside them.
            settings => {
                json!({ "title": row.name, "required": ["kind"], "properties": own, "allOf": [settings] })
            }
        }
    }
}

/// The JSON Schema (2020-12) of a configuration file, as `moongate schema` prints it.
pub fn schema(tables: &[KindTable]) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut root = generator.root_schema_for::<Config>().to_value();
    let entries: Vec<_> = tables.iter().map(|table| (table.setting, table.entry(&mut generator))).collect();
    // The kinds' schemas may have defined further types.
    let definitions = generator.take_definitions(true);
    let Some(object) = root.as_object_mut() else { return root };
    let known = object.entry("$defs").or_insert_with(|| json!({}));
    if let Value::Object(known) = known {
        known.extend(definitions);
    }
    object.insert("title".to_owned(), json!("Moongate configuration"));
    object.insert("patternProperties".to_owned(), json!({ "^x-": { "description": "Holds YAML anchors." } }));
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.insert("include".to_owned(), include());
    }
    for (setting, entry) in entries {
        place(object, setting, entry);
    }
    allow_variables(&mut root);
    root
}

fn include() -> Value {
    json!({
        "description": "Merges further files: a file, a pattern such as `conf.d/*.yaml`, or a list of both, relative to this file. Default none.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
    })
}

/// The schema that a `$ref` to a local definition refers to.
fn resolve(schema: Value, generator: &mut SchemaGenerator) -> Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    match target.and_then(|name| generator.definitions().get(name)) {
        Some(definition) => definition.clone(),
        None => schema,
    }
}

/// Returns whether a mapping, or one of its forms, has a property of that name.
fn has_property(schema: &Value, name: &str) -> bool {
    let forms = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    schema["properties"].get(name).is_some() || forms.into_iter().any(|form| has_property(form, name))
}

/// Replaces the model's generic entry with the kinds.
fn place(root: &mut Map<String, Value>, setting: &str, entry: Value) {
    let Some(Value::Object(definitions)) = root.get_mut("$defs") else { return };
    if setting == "plugins" {
        definitions.insert("PluginEntry".to_owned(), entry);
        return;
    }
    if setting == "stores" {
        definitions.insert("StoreEntry".to_owned(), entry);
        if let Some(Value::Object(stores)) = root.get_mut("properties").and_then(|all| all.get_mut("stores"))
        {
            stores.insert("additionalProperties".to_owned(), json!({ "$ref": "#/$defs/StoreEntry" }));
        }
        return;
    }
    if setting == "sources" {
        definitions.insert("SourceEntry".to_owned(), entry);
        if let Some(Value::Object(sources)) =
            root.get_mut("properties").and_then(|all| all.get_mut("sources"))
        {
            sources.insert("items".to_owned(), json!({ "$ref": "#/$defs/SourceEntry" }));
        }
        return;
    }
    let Some(property) =
        definitions.get_mut("Upstream").and_then(|upstream| upstream["properties"].get_mut(setting))
    else {
        return;
    };
    let about = property.get("description").cloned().unwrap_or_default();
    *property = json!({ "description": about, "anyOf": [entry, { "type": "null" }] });
}

/// Numbers and booleans may be variables: `threads: ${THREADS}` is text to an editor.
fn allow_variables(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(kinds) = object.get("type").and_then(with_text) {
                object.insert("type".to_owned(), kinds);
                object.insert("pattern".to_owned(), json!("\\$\\{"));
            }
            object.values_mut().for_each(allow_variables);
        }
        Value::Array(items) => items.iter_mut().for_each(allow_variables),
        _ => {}
    }
}

fn with_text(kind: &Value) -> Option<Value> {
    let kinds: Vec<&str> = match kind {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let plain = kinds.iter().any(|kind| matches!(*kind, "integer" | "number" | "boolean"));
    (plain && !kinds.contains(&"string")).then(|| json!([kinds, vec!["string"]].concat()))
}

#[cfg(test)]
mod tests;
