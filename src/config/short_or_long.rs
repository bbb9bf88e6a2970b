//! Entries with a short form (a name alone) and a long form (a mapping).
//!
//! An entry keeps its settings as written; compiling passes them to the kind. Kinds are unknown here.

use super::endpoint::EndpointEntry;
use super::model::{KindEntry, OnError, PluginEntry, UpstreamRef};
use moongate_config::{Key, Placed, Problem, Problems, Settings, Value, ValueKind, raise};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename = "$shape a kind's name, or a mapping with `kind`")]
enum ShortOrLong {
    #[serde(rename = "scalar")]
    Name(Placed<String>),
    #[serde(rename = "map")]
    Full(Value),
}

/// An entry's kind, its own settings, and the kind's settings.
struct Parts {
    kind: Placed<String>,
    name: Option<Placed<String>>,
    on_error: OnError,
    when: Option<Placed<String>>,
    owned_headers: Vec<Placed<String>>,
    settings: Settings,
}

impl ShortOrLong {
    /// Takes `kind` and the entry's own settings out of the mapping.
    fn parts(self, named: NamedSchema) -> Result<Parts, Problems> {
        let mut value = match self {
            Self::Name(kind) => {
                let place = kind.place.clone();
                let settings = Settings::new(Value { place, kind: ValueKind::Map(Vec::new()) });
                let (on_error, owned_headers) = (OnError::default(), Vec::new());
                return Ok(Parts { kind, name: None, on_error, when: None, owned_headers, settings });
            }
            Self::Full(value) => value,
        };
        let kind = take(&mut value, "kind");
        let mut own = |key| if named == NamedSchema::Yes { take(&mut value, key) } else { None };
        let (name, on_error, when, owned) = (own("name"), own("on_error"), own("when"), own("owned_headers"));
        let mut problems = Problems::default();
        let name = name.and_then(|name| problems.keep(name.read()));
        let on_error = on_error.and_then(|on_error| problems.keep(on_error.read())).unwrap_or_default();
        let when = when.and_then(|when| problems.keep(when.read()));
        let owned_headers = owned.and_then(|owned| problems.keep(owned.read())).unwrap_or_default();
        let Some(kind) = kind else {
            problems.push(without_kind(&value));
            return Err(problems);
        };
        match problems.keep(kind.read()) {
            Some(kind) if problems.0.is_empty() => {
                Ok(Parts { kind, name, on_error, when, owned_headers, settings: Settings::new(value) })
            }
            _ => Err(problems),
        }
    }
}

/// The problem of a mapping without `kind`. In other gateways the kind is the only key.
fn without_kind(value: &Value) -> Problem {
    let problem = Problem::new("missing key `kind`").at(&value.place);
    let ValueKind::Map(entries) = &value.kind else { return problem };
    match &entries[..] {
        [(key, Value { kind: ValueKind::Null, .. })] => {
            problem.help(format!("write `{{ kind: {} }}`", key.text))
        }
        [(key, Value { kind: ValueKind::Map(_), .. })] => {
            problem.help(format!("write `{{ kind: {}, … }}`", key.text))
        }
        _ => problem.help("`moongate kinds` lists the kinds"),
    }
}

/// Whether `name`, `on_error`, `when` and `owned_headers` belong to the entry or to the kind's own settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedSchema {
    Yes,
    No,
}

fn take(value: &mut Value, key: &str) -> Option<Value> {
    let ValueKind::Map(entries) = &mut value.kind else { return None };
    let index = entries.iter().position(|(name, _)| name.text == key)?;
    Some(entries.remove(index).1)
}

impl<'de> Deserialize<'de> for KindEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { kind, settings, .. } =
            ShortOrLong::deserialize(deserializer)?.parts(NamedSchema::No).map_err(raise)?;
        Ok(Self { kind, settings })
    }
}

impl<'de> Deserialize<'de> for PluginEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { kind, name, on_error, when, owned_headers, settings } =
            ShortOrLong::deserialize(deserializer)?.parts(NamedSchema::Yes).map_err(raise)?;
        Ok(Self { kind, name, on_error, when, owned_headers, settings })
    }
}

impl Serialize for KindEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_entry(serializer, &self.kind, KindSettings::default(), &self.settings)
    }
}

impl Serialize for PluginEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = KindSettings {
            name: self.name.as_deref(),
            on_error: self.on_error,
            when: self.when.as_deref(),
            owned_headers: &self.owned_headers,
        };
        write_entry(serializer, &self.kind, own, &self.settings)
    }
}

/// Settings of the entry itself.
#[derive(Clone, Copy, Default, PartialEq)]
struct KindSettings<'a> {
    name: Option<&'a String>,
    on_error: OnError,
    when: Option<&'a String>,
    owned_headers: &'a [Placed<String>],
}

fn write_entry<S: Serializer>(
    serializer: S,
    kind: &str,
    own: KindSettings<'_>,
    settings: &Settings,
) -> Result<S::Ok, S::Error> {
    let entries: &[(Key, Value)] = match &settings.value.kind {
        ValueKind::Map(entries) => entries,
        _ => &[],
    };
    if entries.is_empty() && own == KindSettings::default() {
        return serializer.serialize_str(kind);
    }
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("kind", kind)?;
    if let Some(name) = own.name {
        map.serialize_entry("name", name)?;
    }
    if own.on_error != OnError::default() {
        map.serialize_entry("on_error", &own.on_error)?;
    }
    if let Some(when) = own.when {
        map.serialize_entry("when", when)?;
    }
    if !own.owned_headers.is_empty() {
        map.serialize_entry("owned_headers", own.owned_headers)?;
    }
    for (key, value) in entries {
        map.serialize_entry(&key.text, value)?;
    }
    map.end()
}

macro_rules! entry_schema {
    ($type:ident, $about:literal) => {
        // Replaced by `config::schema`, which knows the tables of kinds.
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $about,
                    "anyOf": [
                        { "type": "string" },
                        { "type": "object", "properties": { "kind": { "type": "string" } }, "required": ["kind"] }
                    ]
                })
            }
        }
    };
}

entry_schema!(KindEntry, "A kind's name, or a mapping with `kind` and its settings.");
entry_schema!(
    PluginEntry,
    "A plugin's name, or a mapping with `kind`, `name`, `on_error`, `when`, `owned_headers` and its settings."
);

impl Serialize for EndpointEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Address(address) => address.serialize(serializer),
            Self::Full(endpoint) => endpoint.serialize(serializer),
        }
    }
}

impl Serialize for UpstreamRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => name.serialize(serializer),
            Self::Inline(endpoints) => endpoints.serialize(serializer),
            Self::Weighted(weights) => weights.serialize(serializer),
        }
    }
}
