//! The `moongate` command. Signal handlers are installed first; the rest is in
//! [`moongate::cli`].

use moongate::cli;
use moongate::plugin::kinds;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(kinds::PLUGINS)
}
