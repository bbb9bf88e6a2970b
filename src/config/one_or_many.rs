//! Settings that are one value or a list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// One value, or a list of which any may match.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape text or a list of texts")]
#[schemars(untagged, rename = "OneOrMany_{T}")]
pub enum OneOrMany<T> {
    /// One.
    #[serde(rename = "scalar")]
    One(T),
    /// Any of these.
    #[serde(rename = "list")]
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(one) => one.serialize(serializer),
            Self::Many(many) => many.serialize(serializer),
        }
    }
}
