//! Telemetry: metrics, the access log, and the queue of the process log.
//!
//! A layer below all others: each may count, without knowing how counts are exposed.

pub mod access_log;
pub mod metrics;
pub mod process_log;
mod quote;

pub use access_log::AccessLog;
pub use quote::quoted;
