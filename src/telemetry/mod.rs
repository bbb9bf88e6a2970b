//! What the gateway says about its own work: every metric name, the access log with its fields, request ids.
//!
//! It sits under every other room, so that each of them may count and none has to know how counts are
//! shown. What stays out: deciding what is worth counting, and the process log, which is `log`'s.

pub mod access;
pub mod id;
pub mod metrics;

pub use access::AccessLog;
pub use id::RequestId;
