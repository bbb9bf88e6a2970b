//! `moongate man`: manual pages in roff, from the definitions of the command line.

use super::command_error::CommandError;
use super::print_out;
use clap::Command;
use clap_mangen::Man;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn main(output: Option<&Path>, command: Command) -> ExitCode {
    let outcome = match output {
        Some(directory) => write(directory, command),
        None => page(command).map(|page| print_out(&page)),
    };
    outcome.unwrap_or_else(|error| error.print())
}

/// The page of the whole command line.
fn page(command: Command) -> Result<String, CommandError> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(CommandError::failed)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Writes the page of each command to a directory, which is created if it is missing.
fn write(directory: &Path, command: Command) -> Result<ExitCode, CommandError> {
    let written =
        std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    written.map_err(|error| {
        CommandError::failed(format!(
            "the manual pages cannot be written to {}: {error}",
            directory.display()
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}
