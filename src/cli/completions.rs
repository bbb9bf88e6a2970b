//! `moongate completions`: completions of a shell, from the definitions of the command line.

use super::print_out;
use clap::Command;
use clap_complete::Shell;
use std::process::ExitCode;

pub(super) fn main(shell: Shell, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print_out(&String::from_utf8_lossy(&script))
}
