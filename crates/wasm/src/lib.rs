//! Filters compiled to WebAssembly (proxy-wasm 0.2.1), as a plugin kind.
//!
//! Modules, bottom up:
//!
//! - `engine` compiles and limits CPU time.
//! - `module` is a checked and compiled module.
//! - `host` is the state of an instance, and `abi` the host functions.
//! - `instance` runs the callbacks, and `worker_instances` assigns instances to workers.
//! - `plugin` and `messages` map the phases of the gateway.
//!
//! A filter's HTTP calls use the gateway's services.

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
mod module_settings;
mod phase_selection;
mod plugin;
mod properties;
mod request_scope;
mod settings;
mod shared_data;
mod status;
mod stream_state;
mod timers;
mod worker_instances;

pub use metrics::{Count, Series, metrics};
pub use settings::KIND;

#[cfg(test)]
mod tests;
