//! The plugin interface of Moongate: all that a plugin may see of the gateway.
//!
//! It sits under every other room: problems with places, settings as the operator wrote them, the
//! one shape of every extension point ([`Kind`]), and the [`Plugin`] trait. No Pingora type, no
//! YAML and no socket comes in here.

mod kind;
mod plugin;
mod problem;
mod settings;
mod stub;
mod units;

pub use kind::Kind;
pub use plugin::{Exchange, Phases, Plugin, PluginStream, Reply, Verdict};
pub use problem::{Place, Problem, Problems, Severity};
pub use settings::{Key, Placed, Settings, Value, ValueKind};
pub use units::{Period, Size};
