//! The setting `resolver`: the resolver of host names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The resolver of host names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolverKind {
    /// The built-in resolver, which queries name servers.
    #[default]
    Hickory,
    /// The system's `getaddrinfo`.
    System,
}
