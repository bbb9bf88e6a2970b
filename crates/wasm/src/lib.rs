//! Filters compiled to WebAssembly (proxy-wasm 0.2.1): a plugin kind like any other.
//!
//! The rooms, from the bottom up: `engine` compiles and counts time, `program` is a module that was
//! found good, `host` what one instance knows, `abi` what it may call, `instance` what we call in it,
//! `slots` which instance serves which worker, `plugin` and `messages` the phases of the gateway.
//! Sockets, and what an upstream is, stay out: a filter's calls go through the gateway's services.

mod abi;
mod callbacks;
mod engine;
mod exports;
mod header_encoding;
mod host;
mod http_calls;
mod instance;
mod invoke;
mod logs;
mod memory;
mod messages;
mod metrics;
mod module;
mod phase_selection;
mod plugin;
mod properties;
mod request_scope;
mod settings;
mod shared_data;
mod stream_state;
mod timers;
mod worker_instances;

pub use metrics::{Count, Series, metrics};
pub use settings::KIND;

#[cfg(test)]
mod tests;
