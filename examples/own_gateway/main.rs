//! A custom gateway: all of Moongate's plugins, and two of its own.
//!
//! `cargo run --example own_gateway -- kinds replace`

mod chaos;
mod replace;

use moongate_config::Kind;
use moongate_sdk::Plugin;
use std::process::ExitCode;

/// The plugin kinds of this gateway's configuration.
const KINDS: &[Kind<dyn Plugin>] = &[chaos::KIND, replace::KIND];

fn main() -> ExitCode {
    moongate::cli::main(KINDS)
}
