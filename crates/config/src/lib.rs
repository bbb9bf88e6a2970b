//! Configuration values of Moongate: settings with source places, conversion into serde types, and problems. The
//! crate does not parse YAML: a loader builds [`Value`]s.

mod credentials;
mod deserialize;
mod dollars;
mod files;
mod kind;
mod off_if_zero;
mod problem;
mod rate;
mod settings;
mod units;
mod value;
mod yaml_scalars;

pub use credentials::Credentials;
pub use deserialize::raise;
pub use dollars::escape_dollars;
pub use files::{Digest, FileRecord, Files, read_regular_file, regular_file};
pub use kind::Kind;
pub use off_if_zero::{OffIfZero, RateOrZero, off_if_zero, rate_or_zero_schema};
pub use problem::{Place, Problem, Problems, Severity, nearest};
pub use rate::Rate;
pub use settings::Settings;
pub use units::{Period, Size};
pub use value::{Key, Placed, Quotes, Value, ValueKind};
