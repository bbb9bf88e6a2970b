//! The `moongate` command. Signals are taken before anything else happens; all the rest is
//! [`moongate::cli`]'s.

use moongate::cli;
use moongate::plugin::kinds;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(kinds::PLUGINS)
}
