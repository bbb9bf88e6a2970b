//! Metrics, the access log and the output of the process log.
//!
//! The lowest layer: every other module may count, and none has to know how counts are exported.

pub mod access_log;
pub mod metrics;
pub mod process_log;
mod quote;

pub use access_log::AccessLog;
pub use quote::quoted;
