//! Types of an upstream's endpoint entries.

use moongate_config::{Placed, Problem, off_if_zero, raise};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::num::NonZeroU32;

/// An address (`ip:port`, `name:port` or `unix:/path`), or a mapping with `address`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape an address, or a mapping with `address`")]
#[schemars(untagged, rename = "EndpointEntry")]
pub enum EndpointEntry {
    /// ip:port, name:port or unix:/path.
    #[serde(rename = "scalar")]
    Address(String),
    /// A mapping with `address`, `weight`, `drain`, `backup` and `max_connections`.
    #[serde(rename = "map")]
    Full(Endpoint),
}

/// An endpoint with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Connects to `ip:port`, `name:port` or `unix:/path`. Required.
    pub address: Placed<String>,
    /// Sets the endpoint's share of new connections, 0 to 1000. `0`: no new connections. Default 1.
    #[serde(default, deserialize_with = "weight", skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub weight: Option<Placed<u16>>,
    /// Takes the endpoint out of rotation and closes its WebSockets with 1012 over the `drain_window` of their
    /// routes. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// Selects the endpoint only while no endpoint without `backup` is available. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Limits concurrent requests and WebSockets of this gateway at the endpoint. Further ones go to the next
    /// endpoint, or get 503 `endpoints_full` if all are full. `0`: off. Default off.
    #[serde(default, deserialize_with = "off_if_zero", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>")]
    pub max_connections: Option<NonZeroU32>,
}

/// An endpoint that a source announces: an address, or a mapping with `address`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename = "$shape an address, or a mapping with `address`")]
pub enum AnnouncedEntry {
    /// ip:port or unix:/path.
    #[serde(rename = "scalar")]
    Address(Placed<String>),
    /// A mapping.
    #[serde(rename = "map")]
    Full(Box<AnnouncedEndpoint>),
}

/// An endpoint that a source announces, with its settings: those of a list, and what only a source can say.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnouncedEndpoint {
    /// `ip:port` or `unix:/path`.
    pub address: Placed<String>,
    /// As in a list.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Option<Placed<u16>>,
    /// As in a list.
    #[serde(default)]
    pub drain: bool,
    /// As in a list: tier 1.
    #[serde(default)]
    pub backup: Option<Placed<bool>>,
    /// Selected only while no endpoint of a lower tier is available.
    #[serde(default)]
    pub tier: Option<u8>,
    /// As in a list.
    #[serde(default, deserialize_with = "off_if_zero")]
    pub max_connections: Option<NonZeroU32>,
    /// Another one at the same address is another endpoint.
    #[serde(default)]
    pub uid: Option<String>,
    /// Where it runs.
    #[serde(default)]
    pub zone: Option<String>,
    /// Whether it serves.
    #[serde(default)]
    pub state: AnnouncedState,
    /// The end of one that leaves, in Unix seconds.
    #[serde(default)]
    pub deadline: Option<Placed<u64>>,
}

/// Whether an endpoint serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnouncedState {
    /// It does.
    #[default]
    Ready,
    /// It leaves.
    Leaving,
}

/// The largest weight.
const MAX_WEIGHT: u16 = 1000;

/// A weight; a number above 16 bits gets the same error as one above the limit.
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
    /// The address as written.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => address,
            Self::Full(full) => &full.address,
        }
    }
}
