//! The setting `path_parameters` of a route: parameters of path segments (`/a;x=1/b`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The meaning of path parameters (`;x=1`) for routes, conditions and plugins. The path is forwarded as sent in
/// all cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathParameters {
    /// Matches the path without parameters.
    #[default]
    Ignore,
    /// Matches the path without parameters, and responds 400 to a request with parameters.
    Reject,
    /// Matches the path with parameters.
    Keep,
}
