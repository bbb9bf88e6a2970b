//! Reports of configuration problems in the style of rustc: message, place, source line and help.
//!
//! Reports are only rendered here; callers print them.

mod excerpt;

#[cfg(test)]
mod tests;

use excerpt::Excerpt;
use moongate_config::{Problem, Problems, Severity};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Problems shown in a report; the others are only counted.
const SHOWN_MAX: usize = 100;

/// Source texts by file name.
#[derive(Clone, Debug, Default)]
pub struct Sources(HashMap<Arc<str>, String>);

impl Sources {
    /// Adds a file.
    pub fn insert(&mut self, name: Arc<str>, text: String) {
        self.0.insert(name, text);
    }

    /// Line `number` (from 1) of a file.
    fn line(&self, name: &str, number: u32) -> Option<&str> {
        let text = self.0.get(name)?;
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        // A problem at the end of a file may point after its last line.
        let behind_the_end = index > 0 && index == text.lines().count();
        text.lines().nth(index).or(behind_the_end.then_some(""))
    }
}

/// Whether the report carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// For a terminal.
    Always,
    /// For files, pipes and the API.
    Never,
}

/// The parts of a report that differ in colour.
#[derive(Clone, Copy)]
enum Part {
    Severity(Severity),
    Message,
    Gutter,
}

impl Color {
    fn paint(self, part: Part, text: &str) -> String {
        let code = match part {
            _ if self == Self::Never => return text.to_owned(),
            Part::Severity(Severity::Error) => "1;31",
            Part::Severity(Severity::Warning) => "1;33",
            Part::Message => "1",
            Part::Gutter => "1;34",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The report: every problem by place, then a count. Empty without problems.
pub fn render(problems: &Problems, sources: &Sources, color: Color) -> String {
    let mut sorted: Vec<&Problem> = problems.0.iter().collect();
    sorted.sort_by(|a, b| a.place.cmp(&b.place));
    // An anchor that is used twice has the same problem twice at one place.
    let mut seen = HashSet::new();
    sorted.retain(|problem| {
        let place = problem.place.as_ref().map(|place| (&place.file, place.line, place.column));
        seen.insert((place, &problem.message))
    });
    if sorted.is_empty() {
        return String::new();
    }
    let mut report = String::new();
    for problem in sorted.iter().take(SHOWN_MAX) {
        block(&mut report, heading(problem.severity), problem, sources, color);
        report.push('\n');
    }
    report.push_str(&summary(&sorted));
    report
}

fn summary(problems: &[&Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let counts = [counted(errors, "error"), counted(problems.len() - errors, "warning")];
    let mut line = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if problems.len() > SHOWN_MAX {
        line.push_str(&format!(" (the first {SHOWN_MAX} are shown)"));
    }
    line.push('\n');
    line
}

/// The excerpt of one problem under a heading that takes the place of its severity, such as `changed`.
pub fn render_under(heading: &str, problem: &Problem, sources: &Sources, color: Color) -> String {
    let mut report = String::new();
    block(&mut report, heading, problem, sources, color);
    report
}

fn heading(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn block(report: &mut String, heading: &str, problem: &Problem, sources: &Sources, color: Color) {
    let severity = color.paint(Part::Severity(problem.severity), heading);
    let message = color.paint(Part::Message, &format!(": {}", escape_controls(&problem.message)));
    report.push_str(&format!("{severity}{message}\n"));

    let mut gutter = String::new();
    // Defaults and generated values have no file.
    if let Some(place) = problem.place.as_ref().filter(|place| !place.file.is_empty()) {
        let number = place.line.to_string();
        gutter = " ".repeat(number.len());
        let line = sources.line(&place.file, place.line);
        let position = line.map(|_| format!(":{}:{}", place.line, place.column)).unwrap_or_default();
        let path =
            if place.path.is_empty() { String::new() } else { format!("  {}", escape_controls(&place.path)) };
        let arrow = color.paint(Part::Gutter, "-->");
        report.push_str(&format!("{gutter}{arrow} {}{position}{path}\n", escape_controls(&place.file)));
        if let Some(line) = line {
            let excerpt = Excerpt::around(line, place.column, place.width);
            let bar = color.paint(Part::Gutter, &format!("{gutter} |"));
            let numbered = color.paint(Part::Gutter, &format!("{number} |"));
            let label = problem
                .label
                .as_deref()
                .map(|label| format!(" {}", escape_controls(label)))
                .unwrap_or_default();
            let marks = color.paint(Part::Severity(problem.severity), &format!("{}{label}", excerpt.carets));
            report
                .push_str(&format!("{bar}\n{numbered} {}\n{bar} {}{marks}\n", excerpt.text, excerpt.indent));
            if !problem.help.is_empty() {
                report.push_str(&format!("{bar}\n"));
            }
        } else if let Some(label) = &problem.label {
            help(report, &gutter, label, color);
        }
    } else if let Some(label) = &problem.label {
        help(report, &gutter, label, color);
    }
    for line in &problem.help {
        help(report, &gutter, line, color);
    }
}

fn help(report: &mut String, gutter: &str, text: &str, color: Color) {
    let mark = color.paint(Part::Gutter, "=");
    report.push_str(&format!(
        "{gutter} {mark} {}: {}\n",
        color.paint(Part::Message, "help"),
        escape_controls(text)
    ));
}

/// Replaces control characters: a configuration must not control the terminal.
fn escape_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
