//! Settings as the operator wrote them: a tree of values that know their places.
//!
//! The tree is what the YAML reader hands on, so no other room ever meets YAML. A kind reads its
//! own settings with [`Settings::read`] into a plain serde type; what is wrong comes back as
//! problems with places, all of them at once.

use crate::{Place, Problems};
use serde::de::DeserializeOwned;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: ValueKind,
}

/// The shapes a value can have. A scalar keeps its text: what type it is, the reader of it decides.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// `~`, `null` or nothing at all.
    Null,
    /// One word, number or text; `quoted` tells `"1"` from `1`.
    Scalar {
        /// The text without its quotes.
        text: String,
        /// Whether it stood in quotes (or in a block).
        quoted: bool,
    },
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, in the order written.
    Map(Vec<(Key, Value)>),
}

/// The key of a mapping, with its own place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where.
    pub place: Place,
    /// Its text.
    pub text: String,
}

// Two settings are the same when they say the same, wherever they stand: an instance is kept
// across a reload that only moved its lines.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
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
    /// What was read.
    pub value: T,
    /// Where it was written.
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

/// The settings of one entry of a kind: the mapping without its `kind:` key (and without the keys
/// that belong to the entry rather than to the kind, as `name` and `when` of a plugin).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings(pub Value);

impl Settings {
    /// Reads the settings into a serde type. Unknown keys, wrong types and missing keys come back
    /// as problems with places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        self.0.read()
    }

    /// Where the entry was written.
    pub fn place(&self) -> &Place {
        &self.0.place
    }
}
