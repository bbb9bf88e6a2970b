//! serde deserializer for one value of the tree.

use super::access::{EnumContent, KeyedEntries, Keys, Listed};
use super::error::{ErrorContext, ReadError, unknown_key};
use super::multi_error::ErrorCollector;
use super::serde_extensions;
use crate::yaml_scalars::YamlScalar;
use crate::{Quotes, Value, ValueKind};
use serde::de::{DeserializeSeed, Deserializer, Visitor};

/// Reads one value; `hunt` is set once the value is known to be bad.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) node: &'a Value,
    pub(crate) hunt: Option<&'a ErrorCollector>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(node: &'a Value, hunt: Option<&'a ErrorCollector>) -> Self {
        Self { node, hunt }
    }

    /// Reads the value with a seed; an error without a place is attributed to this value.
    pub(crate) fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        let value = seed.deserialize(self).map_err(|error| self.place_error(error))?;
        if let Some(hunt) = self.hunt {
            hunt.good(self.node);
        }
        Ok(value)
    }

    /// Attributes a new error to this value, and records it while problems are collected.
    pub(crate) fn place_error(self, mut error: ReadError) -> ReadError {
        match (error.stage(), self.hunt) {
            (ErrorContext::Fresh, Some(hunt)) => hunt.note_error(self.node, error),
            (ErrorContext::Fresh, None) => {
                let problems = std::mem::take(error.problems_mut()).at(&self.node.place);
                *error.problems_mut() = problems;
                error.at_stage(ErrorContext::Exhausted)
            }
            _ => error,
        }
    }

    /// The elements of a list; null is an empty list, for a list whose lines are all commented out.
    fn list(self, tuple: bool) -> Result<Listed<'a>, ReadError> {
        match &self.node.kind {
            ValueKind::List(items) => Ok(Listed::new(self, items, tuple)),
            ValueKind::Null => Ok(Listed::new(self, &[], tuple)),
            ValueKind::Scalar { .. } if !tuple => Err(self.list_of_one()),
            _ => Err(self.wrong("a list")),
        }
    }

    /// The entries of a mapping; null is an empty mapping.
    fn entries(self, keys: Keys) -> Result<KeyedEntries<'a>, ReadError> {
        match &self.node.kind {
            ValueKind::Map(entries) => Ok(KeyedEntries::new(self, entries, keys)),
            ValueKind::Null => Ok(KeyedEntries::new(self, &[], keys)),
            _ => Err(self.wrong("a mapping")),
        }
    }

    /// Rejects keys without a field: all of them while problems are collected, otherwise the first.
    fn check_keys(self, fields: &'static [&'static str]) -> Result<(), ReadError> {
        let ValueKind::Map(entries) = &self.node.kind else { return Ok(()) };
        for (index, (key, _)) in entries.iter().enumerate() {
            if fields.contains(&key.text.as_str()) {
                continue;
            }
            let Some(hunt) = self.hunt else {
                let problem = unknown_key(&key.text, fields).at(&key.place);
                return Err(ReadError::new(problem).at_stage(ErrorContext::Exhausted));
            };
            if !hunt.is_left_out(self.node, index) {
                hunt.unknown_key(self.node, index, unknown_key(&key.text, fields).at(&key.place));
            }
        }
        Ok(())
    }

    /// The variant whose name is the shape of this value.
    fn by_shape<'de, V: Visitor<'de>>(
        self,
        expected: &str,
        variants: &[&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let shape = match &self.node.kind {
            ValueKind::Null => "null",
            ValueKind::Scalar { .. } => "scalar",
            ValueKind::List(_) => "list",
            ValueKind::Map(_) => "map",
        };
        match variants.contains(&shape) {
            true => visitor.visit_enum(EnumContent::shaped(shape, self)),
            false => Err(self.wrong(expected)),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            visitor.$visit(self.whole::<$type>($type::MIN.into(), $type::MAX.into())?)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let read = match &self.node.kind {
            ValueKind::Null => visitor.visit_unit(),
            ValueKind::Scalar { text, quotes: Quotes::Present | Quotes::AroundVariable } => {
                visitor.visit_str(text)
            }
            ValueKind::Scalar { text, .. } => match YamlScalar::of(text) {
                YamlScalar::Bool(truth) => visitor.visit_bool(truth),
                YamlScalar::Unsigned(number) => visitor.visit_u64(number),
                YamlScalar::Signed(number) => visitor.visit_i64(number),
                YamlScalar::Float(number) => visitor.visit_f64(number),
                YamlScalar::Text => visitor.visit_str(text),
            },
            ValueKind::List(_) => visitor.visit_seq(self.list(false)?),
            ValueKind::Map(_) => visitor.visit_map(self.entries(Keys::Open)?),
        };
        // A type that buffers this value and reads it later gets the outermost place.
        serde_extensions::announce(&self.node.place);
        read
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_f64(self.fraction()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_f64(self.fraction()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_bool(self.truth()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_bytes(self.text()?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_bytes(self.text()?.as_bytes())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.kind {
            ValueKind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.kind {
            ValueKind::Null => visitor.visit_unit(),
            _ => Err(self.wrong("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match name {
            serde_extensions::PLACED => serde_extensions::announce(&self.node.place),
            serde_extensions::VALUE => {
                serde_extensions::hand(self.node);
                return visitor.visit_unit();
            }
            _ => {}
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_seq(self.list(false)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_seq(self.list(true)?)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_seq(self.list(true)?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_map(self.entries(Keys::Open)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let entries = self.entries(Keys::Fixed)?;
        self.check_keys(fields)?;
        visitor.visit_map(entries)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let Some(expected) = name.strip_prefix(serde_extensions::SHAPE) {
            return self.by_shape(expected, variants, visitor);
        }
        match &self.node.kind {
            ValueKind::Scalar { text, .. } => visitor.visit_enum(EnumContent::unit(text)),
            ValueKind::Map(entries) => match entries.as_slice() {
                [(key, value)] => {
                    visitor.visit_enum(EnumContent::keyed(&key.text, Self::new(value, self.hunt)))
                }
                _ => Err(self.wrong("a mapping with one key")),
            },
            _ => Err(self.wrong(&format!("one of {}", variants.join(", ")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }
}
