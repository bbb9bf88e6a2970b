//! The setting `server.via`.

use super::word_choice::choice;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The messages that get a `Via` field (RFC 9110 §7.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Adds no `Via`.
    #[default]
    Off,
    /// Adds `Via` to requests.
    Requests,
    /// Adds `Via` to responses.
    Responses,
    /// Adds `Via` to requests and responses.
    Both,
}

impl Via {
    /// Whether requests get it.
    pub fn is_in_requests(self) -> bool {
        matches!(self, Self::Requests | Self::Both)
    }

    /// Whether responses get it.
    pub fn is_in_responses(self) -> bool {
        matches!(self, Self::Responses | Self::Both)
    }
}

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mistaken = &[
            ("true", "write `both`, `requests` or `responses`"),
            ("false", "write `off`, which is the default"),
        ];
        let values = &[Self::Off, Self::Requests, Self::Responses, Self::Both];
        choice(deserializer, &["off", "requests", "responses", "both"], values, mistaken)
    }
}
