//! Telemetry: metrics, the access log, traces, and the queue of the process log.
//!
//! A layer below all others: each may count, without knowing how counts are exposed.

pub(crate) mod access_log;
pub(crate) mod metrics;
pub(crate) mod process_log;
mod quote;
pub(crate) mod recent_lines;
mod trace_id;
pub(crate) mod traces;
mod unix_time;

pub(crate) use access_log::AccessLog;
pub(crate) use quote::quoted;
pub(crate) use trace_id::TraceId;
pub(crate) use unix_time::unix_millis;
