//! How a route reads the parameters of path segments (`/a;x=1/b`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the parameters of a path's segments (`;x=1`) are for the route's `path`, and for conditions and plugins. They are
/// forwarded as they came, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathParameters {
    /// Matches the path without parameters.
    #[default]
    Ignore,
    /// Matches the path without parameters, and responds 400 to a request with some.
    Reject,
    /// Matches the path with parameters.
    Keep,
}
