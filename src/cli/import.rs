//! `moongate import`: translates the configuration of another server, with a report about each of its directives.

use super::command_error::CommandError;
use super::printable::printable;
use super::{BAD_CONFIG, INCOMPLETE, color, print_error, print_out};
use crate::diagnostics::{self, Color, Sources};
use clap::Subcommand;
use moongate_config::{Problem, Problems, Severity};
use moongate_import::{Files, Finding, Imported, Outcome, Paths, import_nginx};
use std::collections::HashSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use unicode_width::UnicodeWidthStr;

/// The beginning of every result.
const MARK: &[u8; 21] = b"# Imported from nginx";

/// Directories of sites, beside nginx.conf.
const SITES: [&str; 3] = ["sites-enabled", "sites-available", "conf.d"];

/// The widest left column of `--explain`.
const WIDEST: usize = 70;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Translate an nginx configuration; exits with 3 if something differs or is not translated
    Nginx(Arguments),
}

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// nginx.conf, or a file of a site
    #[arg(value_hint = clap::ValueHint::FilePath)]
    nginx_file: PathBuf,
    /// Write the configuration to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Replace a file that is not the result of an import
    #[arg(long, requires = "output")]
    force: bool,
    /// Directory of relative includes and files [default: the directory of the file, for one in sites-enabled,
    /// sites-available or conf.d the one above]
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    prefix: Option<PathBuf>,
    /// Write nothing unless every directive is taken over or implied
    #[arg(long)]
    strict: bool,
    /// Show every directive beside what it became, instead of the configuration
    #[arg(long, conflicts_with = "output")]
    explain: bool,
}

pub(super) fn main(command: &Command) -> ExitCode {
    let Command::Nginx(arguments) = command;
    match run(arguments) {
        Ok(code) => code,
        Err(error) => error.print(),
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let file = &arguments.nginx_file;
    let prefix = arguments.prefix.clone().unwrap_or_else(|| default_prefix(file));
    let mut files = Files::default();
    let result = paths(&prefix, arguments.output.as_deref())
        .map_err(|error| CommandError::failed(format!("`{}`: {error}", prefix.display())))
        .map(|paths| import_nginx(file, &prefix, &paths, &mut files))?;
    let mut sources = Sources::default();
    let mut read = vec![file.clone()];
    for (name, text) in files.0 {
        read.push(PathBuf::from(&*name));
        sources.insert(name, text);
    }
    let imported = result.map_err(|problem| {
        let report = diagnostics::render(&Problems::from(problem), &sources, color());
        CommandError::report(report, BAD_CONFIG)
    })?;
    if let Some(output) = &arguments.output {
        replaceable(output, &read, arguments.force)?;
    }
    let is_complete = imported.is_complete();
    if arguments.explain {
        print_out(&explain(&imported));
    } else {
        print_error(&report(&imported, &sources, color()));
        if arguments.strict && !is_complete {
            print_error("nothing is written, because of `--strict`\n");
            return Ok(ExitCode::from(INCOMPLETE));
        }
        match &arguments.output {
            Some(output) => std::fs::write(output, &imported.yaml)
                .map_err(|error| CommandError::failed(format!("`{}`: {error}", output.display())))?,
            None => {
                print_out(&imported.yaml);
            }
        }
    }
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// The directory of nginx.conf: that of the file, or the one above for the file of a site.
fn default_prefix(file: &Path) -> PathBuf {
    let own = directory(file);
    let Ok(absolute) = std::path::absolute(&own) else { return own };
    let is_of_sites = absolute.file_name().is_some_and(|name| SITES.iter().any(|sites| name == *sites));
    match absolute.parent() {
        Some(parent) if is_of_sites => parent.to_owned(),
        _ => own,
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses a file of the import as its output, and without `force` any file that no import wrote.
fn replaceable(output: &Path, read: &[PathBuf], force: bool) -> Result<(), CommandError> {
    // A device or a pipe is written to, not replaced.
    let Some(existing) = std::fs::metadata(output).ok().filter(std::fs::Metadata::is_file) else {
        return Ok(());
    };
    let is_same = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|other| (other.dev(), other.ino()) == (existing.dev(), existing.ino()))
    };
    if read.iter().any(is_same) {
        let message = format!("`{}` is a file that the import reads; write to another one", output.display());
        return Err(CommandError::failed(message));
    }
    if force || is_imported(output) {
        return Ok(());
    }
    Err(CommandError::failed(format!("`{}` exists; --force replaces it", output.display())))
}

/// Whether an import wrote the file.
fn is_imported(file: &Path) -> bool {
    let mut start = [0; MARK.len()];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *MARK
}

/// Relative paths of the result begin at its own directory: they stay as they are if that is nginx's.
fn paths(prefix: &Path, output: Option<&Path>) -> io::Result<Paths> {
    let written = std::path::absolute(output.map_or_else(|| PathBuf::from("."), directory))?;
    let prefix = std::path::absolute(prefix)?;
    let same = prefix.components().eq(written.components());
    Ok(Paths { before: if same { PathBuf::new() } else { prefix } })
}

/// The report: one line for a directive that is taken over or implied, then an excerpt for any other, the worst last,
/// and the counts. A file that is included several times is reported once.
fn report(imported: &Imported, sources: &Sources, color: Color) -> String {
    let mut known = HashSet::new();
    let mut is_new = |finding: &&Finding| {
        let place = &finding.place;
        known.insert((place.file.clone(), place.line, place.column, finding.outcome, finding.reasons.clone()))
    };
    let findings: Vec<&Finding> = imported.findings.iter().filter(|finding| is_new(finding)).collect();
    let mut report = String::new();
    for finding in &findings {
        if matches!(finding.outcome, Outcome::TakenOver | Outcome::Implied) && !finding.is_entry {
            report.push_str(&line(finding));
        }
    }
    for remark in &imported.remarks {
        report.push_str(&format!("note: {}\n", printable(remark)));
    }
    for outcome in [Outcome::Changed, Outcome::NotTranslated] {
        // The block of a directive within one is reported.
        for finding in findings.iter().filter(|finding| finding.outcome == outcome && !finding.is_within) {
            if !report.is_empty() && !report.ends_with("\n\n") {
                report.push('\n');
            }
            report.push_str(&excerpt(finding, sources, color));
            report.push('\n');
        }
    }
    report.push_str(&counts(imported));
    report
}

fn line(finding: &Finding) -> String {
    let place = &finding.place;
    let reasons = finding.reasons.join("; ");
    let text = format!("{}:{}: {}: {}", place.file, place.line, finding.outcome.words(), finding.line);
    let entries = match finding.entries {
        0 => String::new(),
        1 => ": 1 entry".to_owned(),
        count => format!(": {count} entries"),
    };
    format!(
        "{}{entries}{}\n",
        printable(&text),
        if reasons.is_empty() { String::new() } else { format!(": {}", printable(&reasons)) }
    )
}

fn excerpt(finding: &Finding, sources: &Sources, color: Color) -> String {
    let message = match finding.reasons.as_slice() {
        [] => format!("`{}`", finding.name),
        reasons => format!("`{}`: {}", finding.name, reasons.join("; ")),
    };
    let mut problem = Problem::new(message).at(&finding.place);
    problem.severity = match finding.outcome {
        Outcome::NotTranslated => Severity::Error,
        _ => Severity::Warning,
    };
    for help in &finding.help {
        problem = problem.help(help.clone());
    }
    diagnostics::render_under(finding.outcome.words(), &problem, sources, color)
}

fn counts(imported: &Imported) -> String {
    let outcomes = [Outcome::TakenOver, Outcome::Implied, Outcome::Changed, Outcome::NotTranslated];
    let counts = outcomes.map(|outcome| format!("{} {}", imported.count(outcome), outcome.words()));
    let total = imported.findings.len();
    format!("{total} directives: {}\n", counts.join(", "))
}

/// Each directive with its line, beside what it became.
fn explain(imported: &Imported) -> String {
    let left = |finding: &Finding| {
        let text = format!("{}:{} {}", finding.place.file, finding.place.line, finding.line);
        printable(&text).to_string()
    };
    let width = imported.findings.iter().map(|finding| left(finding).width()).max().unwrap_or(0).min(WIDEST);
    let mut out = String::new();
    for finding in &imported.findings {
        let left = left(finding);
        let padding = width.saturating_sub(left.width());
        let right = finding.reasons.join("; ");
        let separator = if right.is_empty() { "" } else { ": " };
        let right = printable(&right);
        out.push_str(&format!("{left}{:padding$}  {}{separator}{right}\n", "", finding.outcome.words()));
    }
    out.push_str(&counts(imported));
    out
}
