//! What the gateway says about its own work: every metric name, and the access log with its fields.
//!
//! It sits under every other room, so that each of them may count and none has to know how counts are
//! shown. What stays out: deciding what is worth counting, and the process log, which is `log`'s.

pub mod access_log;
pub mod metrics;
pub mod process_log;
mod quote;

pub use access_log::AccessLog;
pub use quote::quoted;
