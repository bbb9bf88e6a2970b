//! Import of nginx configurations: a reader of nginx's syntax, a translation into our configuration, and a finding for
//! every directive.
//!
//! The result is text and findings; callers write and print them. Nothing is executed, and only the files of the
//! configuration are read.

mod arguments;
mod cel;
mod cel_text;
mod maps;
mod names;
mod reader;
mod report;
mod scope;
mod tables;
mod translate;
mod units;
mod yaml;

#[cfg(test)]
mod tests;

pub use reader::Files;
pub use report::{Finding, Outcome};
pub use translate::Paths;

use moongate_config::Problem;
use reader::{ReadError, Source, SyntaxError};
use std::path::Path;

/// An imported configuration.
#[derive(Debug)]
pub struct Imported {
    /// The configuration in our format.
    pub yaml: String,
    /// What became of every directive, in the order of the files.
    pub findings: Vec<Finding>,
    /// What differs without a directive that says so.
    pub remarks: Vec<String>,
}

impl Imported {
    /// The number of directives with this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// Whether every directive is taken over or implied.
    pub fn is_complete(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.outcome, Outcome::TakenOver | Outcome::Implied))
    }
}

/// Imports an nginx configuration with the files that it includes. `prefix` is the directory of relative includes;
/// the texts that were read are added to `files`.
///
/// # Errors
/// The file cannot be read, its syntax is wrong, it has no directive, or one has a number of arguments that nginx refuses.
pub fn import_nginx(
    file: &Path,
    prefix: &Path,
    paths: &Paths,
    files: &mut Files,
) -> Result<Imported, Problem> {
    let source = reader::read_file(file, prefix, files).map_err(|error| match error {
        ReadError::Unreadable(message) => Problem::new(message),
        ReadError::Syntax(error) => problem(error),
    })?;
    if source.directives.is_empty() {
        return Err(Problem::new(format!("`{}`: no directive in the file", file.display())));
    }
    arguments::check(&source.directives).map_err(problem)?;
    Ok(import(&source, paths))
}

/// Imports an nginx configuration from text. Its includes are reported as not translated.
///
/// # Errors
/// The syntax is wrong, or a directive has a number of arguments that nginx refuses.
pub fn import_nginx_text(name: &str, text: &str, files: &mut Files) -> Result<Imported, Problem> {
    let source = reader::read_text(name, text, files).map_err(problem)?;
    arguments::check(&source.directives).map_err(problem)?;
    Ok(import(&source, &Paths::default()))
}

fn problem(error: SyntaxError) -> Problem {
    Problem::new(error.message).at(&error.place)
}

fn import(source: &Source, paths: &Paths) -> Imported {
    let translation = translate::translate(source, paths);
    let head = head(&translation.findings, &translation.remarks);
    Imported {
        yaml: translation.document.document(&head),
        findings: translation.findings,
        remarks: translation.remarks,
    }
}

/// The comment at the head of the file.
fn head(findings: &[Finding], remarks: &[String]) -> Vec<String> {
    let mut head = vec!["Imported from nginx by `moongate import nginx`.".to_owned()];
    let missing =
        findings.iter().filter(|finding| finding.outcome == Outcome::NotTranslated && !finding.is_within);
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        head.push(String::new());
        head.push("Not translated:".to_owned());
        for finding in missing {
            head.push(format!("- {}:{} {}", finding.place.file, finding.place.line, finding.line));
        }
    }
    if !remarks.is_empty() {
        head.push(String::new());
        head.extend(remarks.iter().flat_map(|remark| wrapped(remark)));
    }
    head
}

/// A text in lines of at most 100 characters.
pub(crate) fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
