//! Filters written in Luau, as a plugin kind.
//!
//! A script is compiled once and runs in one sandboxed VM per worker, with limits on CPU time and memory. It has
//! access only to what [`moongate_sdk`] offers every plugin; `docs/reference/luau.md` documents the script's side.

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
