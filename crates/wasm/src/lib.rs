//! Filters compiled to WebAssembly (proxy-wasm 0.2.1): a plugin kind like any other.
//!
//! The modules, from the bottom up: `engine` compiles and counts time, `host` is what one instance knows, `abi` what it
//! may call, `module` a module that was found good, `instance` what the gateway calls in it, `worker_instances` which
//! instance serves which worker, `invoke`, `messages` and `plugin` the phases of the gateway.
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
