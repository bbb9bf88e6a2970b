//! Types of an upstream's endpoint entries.

use moongate_config::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Placed<u16>>,
    /// Takes no new connection, and asks its WebSockets to come again over their routes' `drain`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

impl EndpointEntry {
    /// The address as written.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => address,
            Self::Full(full) => &full.address,
        }
    }
}
