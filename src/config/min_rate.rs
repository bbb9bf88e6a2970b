//! Minimum transfer rate of a client: bytes per second alone, or with a grace period.

use moongate_config::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Bytes per second, or a mapping with `rate` and `grace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a size, or a mapping with `rate` and `grace`")]
#[schemars(untagged, rename = "MinRate")]
pub enum MinRate {
    /// Bytes a second, after the default grace.
    #[serde(rename = "scalar")]
    Rate(Size),
    /// Bytes per second, after this grace.
    #[serde(rename = "map")]
    Full(RateAndGrace),
}

/// A minimum rate and its grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateAndGrace {
    /// Requires this many bytes per second. `0`: off. Default 240B.
    pub rate: Size,
    /// Lets a transfer be slower for this long at its beginning. `0s`: the rate applies from the first byte. Default
    /// 20s.
    pub grace: Period,
}

impl Default for RateAndGrace {
    fn default() -> Self {
        Self { rate: Size(240), grace: Period::seconds(20) }
    }
}

impl Default for MinRate {
    fn default() -> Self {
        Self::Rate(RateAndGrace::default().rate)
    }
}

impl MinRate {
    /// The rate and the grace.
    pub fn parts(self) -> RateAndGrace {
        match self {
            Self::Rate(rate) => RateAndGrace { rate, ..RateAndGrace::default() },
            Self::Full(full) => full,
        }
    }
}

impl Serialize for MinRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rate(rate) => rate.serialize(serializer),
            Self::Full(full) => full.serialize(serializer),
        }
    }
}
