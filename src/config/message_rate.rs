//! The setting `messages_per_second`: a number for each WebSocket, or a mapping that limits a client over a fleet.

use moongate_config::{OffIfZero, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A number of messages of a WebSocket per second, or a mapping with `limit`, `key` and `store`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a number, or a mapping with `limit`, `key` and `store`")]
#[schemars(untagged, rename = "MessageRate")]
pub enum MessageRate {
    /// The limit of each WebSocket; none for `0`.
    #[serde(rename = "scalar")]
    Local(u32),
    /// The limit of a client over all gateways.
    #[serde(rename = "map")]
    Shared(SharedMessages),
}

/// A limit on the messages of a client over all gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedMessages {
    /// Limits messages per second of all WebSockets of a client together. `0`: off. Required.
    pub limit: u32,
    /// Identifies the client by `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME` or `cel:EXPRESSION`. Handshakes
    /// without the value are identified by client IP. Default client_ip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Placed<String>>,
    /// Counts in this store, by its name in `stores`. Required.
    pub store: Placed<String>,
}

impl OffIfZero for MessageRate {
    type Written = Self;

    fn of(written: Self) -> Option<Self> {
        let (Self::Local(limit) | Self::Shared(SharedMessages { limit, .. })) = &written;
        (*limit > 0).then_some(written)
    }
}

impl MessageRate {
    /// The limit of each WebSocket.
    pub fn local(&self) -> Option<u32> {
        match self {
            Self::Local(limit) => Some(*limit),
            Self::Shared(_) => None,
        }
    }

    /// The limit of a fleet.
    pub fn shared(&self) -> Option<&SharedMessages> {
        match self {
            Self::Local(_) => None,
            Self::Shared(shared) => Some(shared),
        }
    }
}

impl Serialize for MessageRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local(limit) => limit.serialize(serializer),
            Self::Shared(shared) => shared.serialize(serializer),
        }
    }
}
