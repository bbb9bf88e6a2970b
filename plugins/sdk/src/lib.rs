//! The plugin interface of Moongate: all that a plugin may see of the gateway.
//!
//! It sits under every other room: problems with places, settings as the operator wrote them, the
//! one shape of every extension point ([`Kind`]), and the [`Plugin`] trait. No Pingora type, no
//! YAML and no socket comes in here.

mod exchange;
mod kind;
mod plain;
mod plugin;
mod problem;
mod rate;
mod read;
mod running;
mod settings;
mod template;
mod units;

pub use exchange::{Answer, Exchange, Fields, Headers};
pub use kind::Kind;
pub use plugin::{Flow, Phases, Plugin, Reply, Verdict};
pub use problem::{Place, Problem, Problems, Severity};
pub use rate::Rate;
pub use read::raise;
pub use running::Running;
pub use settings::{Key, Placed, Settings, Value, ValueKind};
pub use template::Template;
pub use units::{Period, Size};
