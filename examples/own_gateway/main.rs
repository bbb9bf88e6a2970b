//! A team's own gateway: everything that Moongate has, and two plugins of the team's own.
//!
//! `cargo run --example own_gateway -- kinds replace`

mod chaos;
mod replace;

use moongate_config::Kind;
use moongate_sdk::Plugin;
use std::process::ExitCode;

/// The kinds that a configuration of this gateway may name.
const KINDS: &[Kind<dyn Plugin>] = &[chaos::KIND, replace::KIND];

fn main() -> ExitCode {
    moongate::cli::main(KINDS)
}
