//! serde access to list elements, map entries and enum variants.

use super::error::{ErrorContext, ReadError};
use super::reader::Reader;
use crate::{Key, Quotes, Value, ValueKind};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

/// The kind of a mapping's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Fields of a type: read again in each pass, because the type needs them.
    Fixed,
    /// The operator's own names: a judged entry is not read again.
    Open,
}

/// The elements of a list.
pub(crate) struct Listed<'a> {
    parent: Reader<'a>,
    items: &'a [Value],
    index: usize,
    tuple: bool,
}

impl<'a> Listed<'a> {
    pub(crate) fn new(parent: Reader<'a>, items: &'a [Value], tuple: bool) -> Self {
        let index = if tuple { 0 } else { parent.hunt.map_or(0, |hunt| hunt.next(parent.node)) };
        Self { parent, items, index, tuple }
    }
}

impl<'de> SeqAccess<'de> for Listed<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some(item) = self.items.get(self.index) else { return Ok(None) };
        let read = Reader::new(item, self.parent.hunt).read(seed);
        self.index += 1;
        // A tuple needs all of its elements: one bad element makes the tuple bad.
        let (Some(hunt), false) = (self.parent.hunt, self.tuple) else { return read.map(Some) };
        if !read.as_ref().is_err_and(ReadError::again) {
            hunt.done_before(self.parent.node, self.index);
        }
        read.map(Some).map_err(|error| error.at_stage(ErrorContext::Again))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.index))
    }
}

/// The entries of a mapping.
pub(crate) struct KeyedEntries<'a> {
    parent: Reader<'a>,
    entries: &'a [(Key, Value)],
    index: usize,
    keys: Keys,
}

impl<'a> KeyedEntries<'a> {
    pub(crate) fn new(parent: Reader<'a>, entries: &'a [(Key, Value)], keys: Keys) -> Self {
        let index = match (keys, parent.hunt) {
            (Keys::Open, Some(hunt)) => hunt.next(parent.node),
            _ => 0,
        };
        Self { parent, entries, index, keys }
    }

    /// The missing keys come after the entries, while problems are collected.
    fn stand_in(&self) -> Option<(&'static str, Value)> {
        let hunt = self.parent.hunt.filter(|_| self.keys == Keys::Fixed)?;
        hunt.stand_in(self.parent.node, self.index - self.entries.len())
    }

    fn missing_value<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let (Some((_, value)), Some(hunt)) = (self.stand_in(), self.parent.hunt) else {
            return Err(self.parent.wrong("a key before each value"));
        };
        let number = self.index - self.entries.len();
        self.index += 1;
        seed.deserialize(Reader::new(&value, None)).map_err(|error| {
            let more = hunt.misfit(self.parent.node, number);
            error.at_stage(if more { ErrorContext::Again } else { ErrorContext::Exhausted })
        })
    }

    /// Excludes an entry with a bad key or value from the next pass.
    fn judge(&self, index: usize, error: ReadError) -> ReadError {
        let Some(hunt) = self.parent.hunt else { return error };
        if !error.again() {
            match self.keys {
                Keys::Fixed => hunt.leave_out(self.parent.node, index),
                Keys::Open => hunt.done_before(self.parent.node, index + 1),
            }
        }
        error.at_stage(ErrorContext::Again)
    }
}

impl<'de> MapAccess<'de> for KeyedEntries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let hunt = self.parent.hunt;
        while hunt.is_some_and(|hunt| hunt.is_left_out(self.parent.node, self.index)) {
            self.index += 1;
        }
        let Some((key, _)) = self.entries.get(self.index) else {
            let Some((name, _)) = self.stand_in() else { return Ok(None) };
            return seed.deserialize(serde::de::value::StrDeserializer::new(name)).map(Some);
        };
        // A key reads as the scalar that it is; its copy lives until the read ends.
        let scalar = ValueKind::Scalar { text: key.text.clone(), quotes: Quotes::Absent };
        let scalar = Value { place: key.place.clone(), kind: scalar };
        Reader::new(&scalar, hunt).read(seed).map(Some).map_err(|error| self.judge(self.index, error))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let index = self.index;
        let Some((_, value)) = self.entries.get(index) else { return self.missing_value(seed) };
        self.index += 1;
        let read = Reader::new(value, self.parent.hunt).read(seed);
        if let (Ok(_), Keys::Open, Some(hunt)) = (&read, self.keys, self.parent.hunt) {
            hunt.done_before(self.parent.node, self.index);
        }
        read.map_err(|error| self.judge(index, error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len().saturating_sub(self.index))
    }
}

/// A variant and its content, if any.
pub(crate) struct EnumContent<'a> {
    name: &'a str,
    content: Option<Reader<'a>>,
    own: bool,
}

impl<'a> EnumContent<'a> {
    /// A variant without content.
    pub(crate) fn unit(name: &'a str) -> Self {
        Self { name, content: None, own: false }
    }

    /// A variant named by a key, with the value of that key.
    pub(crate) fn keyed(name: &'a str, value: Reader<'a>) -> Self {
        Self { name, content: Some(value), own: true }
    }

    /// A variant named by the shape of the value that is read.
    pub(crate) fn shaped(shape: &'a str, value: Reader<'a>) -> Self {
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
        // A shaped value is not yet known to be good: the enum's owner may still reject it.
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
