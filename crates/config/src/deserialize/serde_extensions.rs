//! Extensions of serde: places, raw values, selection of a variant by shape, and problems with help lines.
//!
//! A type requests them under a reserved name that only this crate's reader knows. With any other deserializer the
//! same types read as the plain value.

use crate::{Place, Placed, Problems, Value};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

/// The newtype name under which a [`Placed`] requests its place.
pub(crate) const PLACED: &str = "$moongate placed";
/// The newtype name under which a [`Value`] requests the tree itself.
pub(crate) const VALUE: &str = "$moongate value";
/// The prefix of an enum's serde name whose variant is selected by the shape of the value.
pub(crate) const SHAPE: &str = "$shape ";

thread_local! {
    /// The place of the current value: set by the reader just before a `Placed` requests it.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
    /// The tree for a `Value`, handed over by the reader.
    static HANDED: RefCell<Option<Value>> = const { RefCell::new(None) };
    /// Problems in transit through serde's `Error::custom`.
    static RAISED: RefCell<Option<Problems>> = const { RefCell::new(None) };
}

/// Converts problems into a serde error that keeps their places, labels and help lines, for a manual `impl
/// Deserialize`. Any other deserializer gets the first message.
pub fn raise<E: de::Error>(problems: impl Into<Problems>) -> E {
    let problems = problems.into();
    let text = problems.0.first().map(|problem| problem.message.clone()).unwrap_or_default();
    RAISED.set(Some(problems));
    let error = E::custom(text);
    RAISED.take();
    error
}

/// The problems of the last [`raise`].
pub(crate) fn raised() -> Option<Problems> {
    RAISED.take()
}

/// Sets the place of the next `Placed`.
pub(crate) fn announce(place: &Place) {
    PLACE.set(Some(place.clone()));
}

/// Sets the tree of the next `Value`.
pub(crate) fn hand(value: &Value) {
    HANDED.set(Some(value.clone()));
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(PLACED, PlacedVisitor(PhantomData))
    }
}

struct PlacedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
    type Value = Placed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Placed<T>, D::Error> {
        // In serde's buffered enums this is the place of the enum, the nearest one available.
        let place = PLACE.with_borrow(Clone::clone).unwrap_or_else(Place::nowhere);
        Ok(Placed { value: T::deserialize(deserializer)?, place })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings read from a configuration")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        HANDED.take().ok_or_else(|| E::custom("settings can only be read from a configuration"))
    }
}
