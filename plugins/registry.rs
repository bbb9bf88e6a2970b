//! The built-in plugins: one file and one entry in [`PLUGINS`] each.
//!
//! A plugin here sees what [`moongate_sdk`] shows it and nothing else of the gateway, as one from an outside
//! team does. `README.md` beside this file writes one from start to finish.

mod headers;
mod request_id;

use moongate_sdk::{Kind, Plugin};

/// Every built-in kind of plugin.
pub const PLUGINS: &[Kind<dyn Plugin>] = &[headers::KIND, request_id::KIND];

/// The README's plugin is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
pub struct Readme;
