//! Which resolver looks host names up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What looks host names up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolverKind {
    /// The gateway asks name servers itself.
    #[default]
    Hickory,
    /// `getaddrinfo`.
    System,
}
