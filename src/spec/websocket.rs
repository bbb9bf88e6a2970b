//! The policy of a route's WebSockets as an operator writes it; what each key does is tunnel's.

use moongate_sdk::Period;
use schemars::JsonSchema;
use serde::Deserialize;

/// The policy of a route's WebSockets.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// The longest silence, without a data frame in either direction. Default 1h.
    pub idle_timeout: Period,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { idle_timeout: Period(std::time::Duration::from_secs(3600)) }
    }
}
