//! Settings in the operator's spelling: a tree of values with their places.
//!
//! The YAML loader builds the tree, so no other module handles YAML. A kind reads its settings with
//! [`Settings::read`] into a serde type, which returns all problems with their places at once.
//!
//! A type with several shapes is an enum whose variants are named after them. Its serde name begins with `$shape `
//! and describes what is expected. Unlike an untagged enum it keeps places and reports the problem inside the shape
//! that was written:
//!
//! ```
//! # use moongate_config::Placed;
//! #[derive(serde::Deserialize)]
//! #[serde(rename = "$shape a name or a list of names")]
//! enum Names {
//!     #[serde(rename = "scalar")]
//!     One(Placed<String>),
//!     #[serde(rename = "list")]
//!     Many(Vec<Placed<String>>),
//! }
//! ```
//!
//! The shapes are `null`, `scalar`, `list` and `map`.

use crate::yaml_scalars::YamlScalar;
use crate::{FileRecord, Files, Place, Problem, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::sync::Arc;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its place.
    pub place: Place,
    /// Its content.
    pub kind: ValueKind,
}

/// The shapes of a value. A scalar keeps its text: the reader decides the type.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// `~`, `null` or an empty value.
    Null,
    /// A word, number or text; `quotes` distinguishes `"1"` from `1`.
    Scalar {
        /// The text without its quotes.
        text: String,
        /// Whether it was quoted.
        quotes: Quotes,
    },
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, in the order written.
    Map(Vec<(Key, Value)>),
}

/// Whether and how a scalar was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Unquoted: without a requested type, the text decides the type.
    Absent,
    /// Quoted, or in a block: text.
    Present,
    /// Quoted, with a value from the environment: text without a requested type, but a number or a boolean where
    /// one is requested. Inside braces YAML accepts `${NAME}` only in quotes.
    AroundVariable,
}

/// The key of a mapping and its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its place.
    pub place: Place,
    /// Its text.
    pub text: String,
}

// Settings are equal if their content is, at any place: an instance is kept across a reload that only moved its
// lines.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
// Quotes matter only where they change the meaning: `"1"` and `1` differ, `"a"` and `a` do not.
impl PartialEq for ValueKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Scalar { text, quotes }, Self::Scalar { text: other, quotes: other_quotes }) => {
                text == other && (quotes == other_quotes || !YamlScalar::differs_when_quoted(text))
            }
            (Self::List(items), Self::List(others)) => items == others,
            (Self::Map(entries), Self::Map(others)) => entries == others,
            _ => false,
        }
    }
}
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A value read into `T`, with its place.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl<T: Eq> Eq for Placed<T> {}

impl<T> std::ops::Deref for Placed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// The settings of one entry of a kind: the mapping without its `kind:` key and without the keys of the entry
/// itself, such as `name` and `when` of a plugin.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The mapping.
    pub value: Value,
    name: Arc<str>,
    files: Files,
}

/// The name and the files that were read are not compared.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Settings {
    /// The settings in `value`, which is a mapping.
    pub fn new(value: Value) -> Self {
        Self { value, name: Arc::from(""), files: Files::default() }
    }

    /// The same for the entry of that name; `files` records what [`Settings::file`] reads.
    #[must_use]
    pub fn noting(&self, name: &str, files: &Files) -> Self {
        Self { value: self.value.clone(), name: name.into(), files: files.clone() }
    }

    /// The entry's name, for the plugin's own logs and metrics: the operator's name for it, or its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a file that the settings name; a relative path starts at the file that contains it. A reload keeps the
    /// instance only while the file is unchanged.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than `limit` bytes.
    pub fn file(&self, path: &Placed<String>, limit: u64) -> Result<FileRecord, Problem> {
        self.files.read(path, limit)
    }

    /// Reads the settings into a serde type. Unknown keys, wrong types and missing keys are reported as problems
    /// with places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        self.value.read()
    }

    /// The place of the entry.
    pub fn place(&self) -> &Place {
        &self.value.place
    }
}

impl Value {
    /// A null value at that place.
    pub fn null(place: Place) -> Self {
        Self { place, kind: ValueKind::Null }
    }

    /// An entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let ValueKind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// Whether a scalar's text differs from the number's usual form: `1.50`, `007`, `1e3`. A writer must keep the
    /// text unquoted. A quoted number from a variable counts too, because the requested type is not known here.
    pub fn is_odd_number(&self) -> bool {
        matches!(&self.kind, ValueKind::Scalar { text, quotes } if *quotes != Quotes::Present && YamlScalar::exact(text).is_none())
    }
}

/// Numbers in their usual form and booleans are written as such, any other scalar as text.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            ValueKind::Null => serializer.serialize_unit(),
            ValueKind::Scalar { text, quotes: Quotes::Present } => serializer.serialize_str(text),
            ValueKind::Scalar { text, .. } => match YamlScalar::exact(text) {
                Some(YamlScalar::Bool(truth)) => serializer.serialize_bool(truth),
                Some(YamlScalar::Unsigned(number)) => serializer.serialize_u64(number),
                Some(YamlScalar::Signed(number)) => serializer.serialize_i64(number),
                Some(YamlScalar::Float(number)) => serializer.serialize_f64(number),
                Some(YamlScalar::Text) | None => serializer.serialize_str(text),
            },
            ValueKind::List(items) => serializer.collect_seq(items),
            ValueKind::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&key.text, value)?;
                }
                map.end()
            }
        }
    }
}

/// Places are not written.
impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// The schema of the value: a place is not written.
impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
