//! Filters written in Luau: a plugin kind like any other.
//!
//! A script is compiled once and runs in one sandboxed state for each worker, limited in time and memory.
//! What it sees of the gateway is what [`moongate_sdk`] shows every plugin; `docs/luau.md` tells its side.

mod call;
mod clock;
mod fault;
mod fields;
mod handles;
mod json;
mod library;
mod machine;
mod phase;
mod plugin;
mod run;
mod script;
mod settings;
mod stage;

pub use settings::KIND;

#[cfg(test)]
mod tests;
