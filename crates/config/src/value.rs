//! Values of a configuration file: a tree in which each value has its source place.
//!
//! The YAML loader builds the tree. [`Value::read`] converts it into a serde type and returns every problem,
//! with its place.
//!
//! A type with several shapes is an enum whose variants are named after them. Its
//! serde name begins with `$shape ` and describes the expected value. Unlike an untagged enum, it
//! keeps places and reports the problem inside the written shape:
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

use crate::Place;
use crate::yaml_scalars::YamlScalar;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its place.
    pub place: Place,
    /// What.
    pub kind: ValueKind,
}

/// The shapes of a value. A scalar keeps its text: the type that is read decides about the conversion.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// `~`, `null` or nothing at all.
    Null,
    /// One word, number or text; `quotes` tells `"1"` from `1`.
    Scalar {
        /// The text without its quotes.
        text: String,
        /// Whether the text was quoted.
        quotes: Quotes,
    },
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, in the order written.
    Map(Vec<(Key, Value)>),
}

/// Whether a scalar is in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Not in quotes: its text decides where no type is expected.
    Absent,
    /// In quotes or in a block: it is text.
    Present,
    /// In quotes, with a value from the environment in them: text where no type is expected, but a number or a
    /// boolean where one is expected. Within braces YAML accepts `${NAME}` in no other way.
    AroundVariable,
}

/// The key of a mapping, with its own place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its place.
    pub place: Place,
    /// Its text.
    pub text: String,
}

// Two values are equal if their contents are, regardless of their places: an instance is kept
// across a reload that only moved its lines.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
// Quotes only tell two scalars apart where they change the meaning: `"1"` and `1`, but not `"a"` and `a`.
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

/// A value read into `T`, with its place kept.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its place in the source.
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

impl Value {
    /// Nothing, written there.
    pub fn null(place: Place) -> Self {
        Self { place, kind: ValueKind::Null }
    }

    /// An entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let ValueKind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// Whether a number would be printed with another text than the written one:
    /// `1.50`, `007`, `1e3`. A printer must keep its text, unquoted. A quoted number from a variable is one too,
    /// because the expected type is unknown here.
    pub fn is_odd_number(&self) -> bool {
        matches!(&self.kind, ValueKind::Scalar { text, quotes } if *quotes != Quotes::Present && YamlScalar::exact(text).is_none())
    }
}

/// Numbers in their usual spelling and truths are written as such, any other scalar as text.
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

/// The schema of the value: a place does not occur in a file.
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
