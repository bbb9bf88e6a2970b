//! serde deserializer for one value of the tree.

use super::error::{ErrorContext, ReadError, unknown_key};
use super::multi_error::ErrorCollector;
use super::serde_extensions;
use crate::yaml_scalars::YamlScalar;
use crate::{Key, Quotes, Value, ValueKind};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Reads one value; `errors` is present once the value is known to be bad.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) node: &'a Value,
    pub(crate) errors: Option<&'a ErrorCollector>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(node: &'a Value, errors: Option<&'a ErrorCollector>) -> Self {
        Self { node, errors }
    }

    /// Reads the value with a seed; an error without a place is attributed to this value.
    pub(crate) fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        let value = seed.deserialize(self).map_err(|error| self.place_error(error))?;
        if let Some(errors) = self.errors {
            errors.good(self.node);
        }
        Ok(value)
    }

    /// Attributes a new error to this value, and records it while problems are collected.
    pub(crate) fn place_error(self, mut error: ReadError) -> ReadError {
        match (error.context(), self.errors) {
            (ErrorContext::Fresh, Some(errors)) => errors.note_error(self.node, error),
            (ErrorContext::Fresh, None) => {
                let problems = std::mem::take(error.problems_mut()).at(&self.node.place);
                *error.problems_mut() = problems;
                error.with_context(ErrorContext::Exhausted)
            }
            _ => error,
        }
    }

    /// The elements of a list; null is an empty list, for a list whose lines are all commented out.
    fn list(self, tuple: bool) -> Result<ListElements<'a>, ReadError> {
        match &self.node.kind {
            ValueKind::List(items) => Ok(ListElements::new(self, items, tuple)),
            ValueKind::Null => Ok(ListElements::new(self, &[], tuple)),
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
            let Some(errors) = self.errors else {
                let problem = unknown_key(&key.text, fields).at(&key.place);
                return Err(ReadError::new(problem).with_context(ErrorContext::Exhausted));
            };
            if !errors.is_left_out(self.node, index) {
                errors.unknown_key(self.node, index, unknown_key(&key.text, fields).at(&key.place));
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
                    visitor.visit_enum(EnumContent::keyed(&key.text, Self::new(value, self.errors)))
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

/// Whether a mapping's keys are the fields of a type or the operator's own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// Fields: read again in each pass, since the type needs them.
    Fixed,
    /// Names: an entry that was judged is not read again.
    Open,
}

/// The elements of a list.
struct ListElements<'a> {
    parent: Reader<'a>,
    items: &'a [Value],
    index: usize,
    tuple: bool,
}

impl<'a> ListElements<'a> {
    fn new(parent: Reader<'a>, items: &'a [Value], tuple: bool) -> Self {
        let index = if tuple { 0 } else { parent.errors.map_or(0, |errors| errors.next(parent.node)) };
        Self { parent, items, index, tuple }
    }
}

impl<'de> SeqAccess<'de> for ListElements<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some(item) = self.items.get(self.index) else { return Ok(None) };
        let read = Reader::new(item, self.parent.errors).read(seed);
        self.index += 1;
        // A tuple needs all of its elements: when one is bad, so is the tuple.
        let (Some(errors), false) = (self.parent.errors, self.tuple) else { return read.map(Some) };
        if !read.as_ref().is_err_and(ReadError::again) {
            errors.done_before(self.parent.node, self.index);
        }
        read.map(Some).map_err(|error| error.with_context(ErrorContext::Again))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.index))
    }
}

/// The entries of a mapping.
struct KeyedEntries<'a> {
    parent: Reader<'a>,
    entries: &'a [(Key, Value)],
    index: usize,
    keys: Keys,
}

impl<'a> KeyedEntries<'a> {
    fn new(parent: Reader<'a>, entries: &'a [(Key, Value)], keys: Keys) -> Self {
        let index = match (keys, parent.errors) {
            (Keys::Open, Some(errors)) => errors.next(parent.node),
            _ => 0,
        };
        Self { parent, entries, index, keys }
    }

    /// A stand-in for a missing key: missing keys follow the entries while errors are collected.
    fn stand_in(&self) -> Option<(&'static str, Value)> {
        let errors = self.parent.errors.filter(|_| self.keys == Keys::Fixed)?;
        errors.stand_in(self.parent.node, self.index - self.entries.len())
    }

    fn missing_value<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let (Some((_, value)), Some(errors)) = (self.stand_in(), self.parent.errors) else {
            return Err(self.parent.wrong("a key before each value"));
        };
        let number = self.index - self.entries.len();
        self.index += 1;
        seed.deserialize(Reader::new(&value, None)).map_err(|error| {
            let more = errors.misfit(self.parent.node, number);
            error.with_context(if more { ErrorContext::Again } else { ErrorContext::Exhausted })
        })
    }

    /// Leaves an entry with a bad key or a hopeless value out of the next pass.
    fn judge(&self, index: usize, error: ReadError) -> ReadError {
        let Some(errors) = self.parent.errors else { return error };
        if !error.again() {
            match self.keys {
                Keys::Fixed => errors.leave_out(self.parent.node, index),
                Keys::Open => errors.done_before(self.parent.node, index + 1),
            }
        }
        error.with_context(ErrorContext::Again)
    }
}

impl<'de> MapAccess<'de> for KeyedEntries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let errors = self.parent.errors;
        while errors.is_some_and(|errors| errors.is_left_out(self.parent.node, self.index)) {
            self.index += 1;
        }
        let Some((key, _)) = self.entries.get(self.index) else {
            let Some((name, _)) = self.stand_in() else { return Ok(None) };
            return seed.deserialize(serde::de::value::StrDeserializer::new(name)).map(Some);
        };
        // A key reads as the scalar it is; its copy lives as long as the reading.
        let scalar = ValueKind::Scalar { text: key.text.clone(), quotes: Quotes::Absent };
        let scalar = Value { place: key.place.clone(), kind: scalar };
        Reader::new(&scalar, errors).read(seed).map(Some).map_err(|error| self.judge(self.index, error))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let index = self.index;
        let Some((_, value)) = self.entries.get(index) else { return self.missing_value(seed) };
        self.index += 1;
        let read = Reader::new(value, self.parent.errors).read(seed);
        if let (Ok(_), Keys::Open, Some(errors)) = (&read, self.keys, self.parent.errors) {
            errors.done_before(self.parent.node, self.index);
        }
        read.map_err(|error| self.judge(index, error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len().saturating_sub(self.index))
    }
}

/// A variant and, unless it is a mere word, what it holds.
struct EnumContent<'a> {
    name: &'a str,
    content: Option<Reader<'a>>,
    own: bool,
}

impl<'a> EnumContent<'a> {
    /// A word.
    fn unit(name: &'a str) -> Self {
        Self { name, content: None, own: false }
    }

    /// A variant named by a key, with the value of that key.
    fn keyed(name: &'a str, value: Reader<'a>) -> Self {
        Self { name, content: Some(value), own: true }
    }

    /// A variant named by the shape of the value that is read.
    fn shaped(shape: &'a str, value: Reader<'a>) -> Self {
        Self { name: shape, content: Some(value), own: false }
    }

    fn content(self) -> Result<Reader<'a>, ReadError> {
        self.content.ok_or_else(|| {
            let problem = crate::Problem::new(format!("`{}` needs settings", self.name));
            ReadError::new(problem.label(format!("write `{{ {}: … }}`", self.name)))
        })
    }
}

impl<'de> EnumAccess<'de> for EnumContent<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        let name = serde::de::value::StrDeserializer::<ReadError>::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for EnumContent<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.content {
            None => Ok(()),
            Some(reader) if reader.node.kind == ValueKind::Null => Ok(()),
            Some(reader) => Err(reader.wrong("nothing")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        let own = self.own;
        let content = self.content()?;
        // A shaped value is not yet known to be good: the enum's owner may still refuse it.
        if own { content.read(seed) } else { seed.deserialize(content) }
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ReadError> {
        let content = self.content()?;
        content.deserialize_tuple(len, visitor).map_err(|error| content.place_error(error))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let content = self.content()?;
        content.deserialize_struct("", fields, visitor).map_err(|error| content.place_error(error))
    }
}
