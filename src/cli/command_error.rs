//! Failure of a command: its report on standard error and its exit code.

use super::{FAILED, USAGE, print_error};
use std::fmt::Display;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandError {
    report: String,
    code: u8,
}

impl CommandError {
    /// A failure at run time (exit code 1).
    pub(super) fn failed(message: impl Display) -> Self {
        Self { report: format!("error: {message}\n"), code: FAILED }
    }

    /// An invalid command line (exit code 2).
    pub(super) fn usage(message: impl Display) -> Self {
        Self { report: format!("error: {message}\n"), code: USAGE }
    }

    /// A complete report with its exit code.
    pub(super) fn report(report: String, code: u8) -> Self {
        Self { report, code }
    }

    /// Adds how to fix it.
    #[must_use]
    pub(super) fn help(mut self, help: impl Display) -> Self {
        self.report.push_str(&format!("  = help: {help}\n"));
        self
    }

    /// The report, as printed.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.report
    }

    /// Prints the report.
    pub(super) fn print(&self) -> ExitCode {
        print_error(&self.report);
        ExitCode::from(self.code)
    }
}
