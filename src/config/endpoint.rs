//! What an operator may write for an endpoint.

use moongate_config::{Placed, Problem, raise};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// An endpoint: an address alone, or a mapping.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape an address, or a mapping with `address`")]
#[schemars(untagged, rename = "EndpointEntry")]
pub enum EndpointEntry {
    /// ip:port, name:port or unix:/path.
    #[serde(rename = "scalar")]
    Address(String),
    /// With its weight, or marked to be left.
    #[serde(rename = "map")]
    Full(Endpoint),
}

/// An endpoint with what else is to say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// ip:port, name:port or unix:/path.
    pub address: Placed<String>,
    /// Its share against the others; 0 takes no new connection. Default 1, at most 1000.
    #[serde(default, deserialize_with = "weight", skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub weight: Option<Placed<u16>>,
    /// Takes no new connection, and asks its WebSockets to come again over their routes' `drain`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

/// The largest weight.
const MAX_WEIGHT: u16 = 1000;

/// A weight, with the same limit whatever the size of the number.
fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Placed<u16>>, D::Error> {
    let Some(written) = Option::<Placed<u64>>::deserialize(deserializer)? else { return Ok(None) };
    match u16::try_from(written.value) {
        Ok(value) if value <= MAX_WEIGHT => Ok(Some(Placed { value, place: written.place })),
        _ => Err(raise(
            Problem::new(format!("weight {} is too large", written.value))
                .help(format!("a weight is 0 to {MAX_WEIGHT}"))
                .at(&written.place),
        )),
    }
}

impl EndpointEntry {
    /// Its address, as it was written.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => address,
            Self::Full(full) => &full.address,
        }
    }
}
