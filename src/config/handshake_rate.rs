//! The setting `handshake_rate`: a rate, or a mapping that shares it through a store.

use moongate_config::{OffIfZero, Placed, Rate, off_if_zero, rate_or_zero_schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A rate of handshakes, or a mapping with `rate` and `store`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a rate, or a mapping with `rate` and `store`")]
#[schemars(untagged, rename = "HandshakeRate")]
pub enum HandshakeRate {
    /// The rate of this process; none for `0`.
    #[serde(rename = "scalar", deserialize_with = "off_if_zero")]
    Local(#[schemars(schema_with = "rate_or_zero_schema")] Option<Placed<Rate>>),
    /// The rate of a fleet.
    #[serde(rename = "map")]
    Shared(SharedRate),
}

/// A rate of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedRate {
    /// Limits handshakes of all gateways together, as `500/s`. Required.
    pub rate: Placed<Rate>,
    /// Counts in this store, by its name in `stores`. Required.
    pub store: Placed<String>,
}

impl OffIfZero for HandshakeRate {
    type Written = Self;

    fn of(written: Self) -> Option<Self> {
        written.parts().is_some().then_some(written)
    }
}

impl HandshakeRate {
    /// The rate and the store, if it is not off.
    pub fn parts(&self) -> Option<(&Placed<Rate>, Option<&Placed<String>>)> {
        match self {
            Self::Local(rate) => Some((rate.as_ref()?, None)),
            Self::Shared(shared) => Some((&shared.rate, Some(&shared.store))),
        }
    }
}

impl Serialize for HandshakeRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local(rate) => rate.as_ref().map(|rate| rate.value).serialize(serializer),
            Self::Shared(shared) => shared.serialize(serializer),
        }
    }
}
