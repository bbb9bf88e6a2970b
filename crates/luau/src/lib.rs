//! Filters written in Luau: a plugin kind like any other.
//!
//! A script is compiled once and runs in one sandboxed state for each worker, limited in time and memory.
//! What it sees of the gateway is what [`moongate_sdk`] shows every plugin; `docs/reference/luau.md` tells its side.

mod call_context;
mod cpu_limit;
mod handles;
mod header_fields;
mod http_call;
mod invoke;
mod json;
mod limits;
mod phase;
mod plugin;
mod script;
mod script_error;
mod settings;
mod standard_library;
mod vm;

pub use settings::KIND;

#[cfg(test)]
mod tests;
