//! What serde has no words for: places, raw values, choosing by shape, and problems with help lines.
//!
//! A type asks for these under a name that only our reader knows. With any other deserializer the
//! same types read as the plain thing they hold.

use crate::{Place, Placed, Problems, Value};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

/// The newtype name behind which a [`Placed`] asks for its place.
pub(crate) const PLACED: &str = "$moongate placed";
/// The newtype name behind which a [`Value`] asks for the tree itself.
pub(crate) const VALUE: &str = "$moongate value";
/// What the name of an enum begins with whose variant is chosen by the shape of the value.
pub(crate) const SHAPE: &str = "$shape ";

thread_local! {
    /// The place of the value being read: set by the reader just before a `Placed` asks.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
    /// The value being handed to a `Value`.
    static HANDED: RefCell<Option<Value>> = const { RefCell::new(None) };
    /// Problems on their way through serde's `Error::custom`.
    static RAISED: RefCell<Option<Problems>> = const { RefCell::new(None) };
}

/// Makes a serde error of problems that keeps their places, labels and help lines, for
/// `impl Deserialize` by hand. Any other deserializer gets the first message.
pub fn raise<E: de::Error>(problems: impl Into<Problems>) -> E {
    let problems = problems.into();
    let text = problems.0.first().map(|problem| problem.message.clone()).unwrap_or_default();
    RAISED.set(Some(problems));
    let error = E::custom(text);
    RAISED.take();
    error
}

/// Problems that [`raise`] is sending just now.
pub(crate) fn raised() -> Option<Problems> {
    RAISED.take()
}

/// The place that a `Placed` read next will take.
pub(crate) fn announce(place: &Place) {
    PLACE.set(Some(place.clone()));
}

/// The value that a `Value` read next will be.
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
        // Inside serde's buffered enums this is the place of the enum: the nearest there is.
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
