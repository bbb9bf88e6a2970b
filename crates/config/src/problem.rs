//! What is wrong with a configuration, and where. Rendering it is the command's work, not ours.

use std::fmt;
use std::sync::Arc;

/// Where in the operator's files a thing was written.
///
/// Cloning is two reference counts: every value of a configuration carries one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Width in characters of what is underlined; at least 1.
    pub width: u32,
    /// The way to the value, as in `routes[2].upstream`; empty for the whole file.
    pub path: Arc<str>,
}

impl Place {
    /// The place of what nobody wrote: a default, or a value made by a test.
    pub fn nowhere() -> Self {
        Self { file: Arc::from(""), line: 1, column: 1, width: 1, path: Arc::from("") }
    }
}

/// Whether a problem refuses the configuration or only deserves a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken; the operator is told.
    Warning,
}

/// One thing that is wrong: what, where, and what next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Refusal or advice.
    pub severity: Severity,
    /// Where; the loader adds it when the author of the message did not know.
    pub place: Option<Place>,
    /// One sentence without a full stop, in lower case, as rustc writes them.
    pub message: String,
    /// Written beside the underline, for instance ``did you mean `x`?``.
    // A boxed text keeps the whole small enough to be the error of a `Result`.
    pub label: Option<Box<str>>,
    /// What to do next, a sentence a line.
    pub help: Vec<String>,
}

impl Problem {
    /// An error without a place; see [`Problem::at`].
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: None,
            message: message.into(),
            label: None,
            help: Vec::new(),
        }
    }

    /// Advice without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(message) }
    }

    /// Gives the problem its place, unless a nearer author already did.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    /// Writes beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    /// Adds a line of advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds ``did you mean `near`?`` when one of `known` is near to `written`.
    #[must_use]
    pub fn suggest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let limit = (written.chars().count() / 3).max(1) + 1;
        let near = known
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(written, name), name))
            .filter(|(distance, _)| *distance <= limit)
            .min();
        match near {
            Some((_, name)) => self.label(Self::meant(name)),
            None => self,
        }
    }

    /// How a likely meaning is put.
    pub(crate) fn meant(name: &str) -> String {
        format!("did you mean `{name}`?")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        f.write_str(&self.message)
    }
}

/// Every problem found in one go, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: impl Into<Problem>) {
        self.0.push(problem.into());
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: Problems) {
        self.0.extend(other.0);
    }

    /// Keeps the value of `result`, or notes its problems.
    pub fn keep<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                self.extend(problems);
                None
            }
        }
    }

    /// Whether one of them refuses the configuration.
    pub fn refuse(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Gives `place` to those that have none.
    #[must_use]
    pub fn at(self, place: &Place) -> Self {
        Self(self.0.into_iter().map(|problem| problem.at(place)).collect())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
