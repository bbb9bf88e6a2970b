//! Problems of a configuration and their places. The command renders them.

use std::fmt;
use std::sync::Arc;

/// The place of a value in the operator's files.
///
/// Cloning costs two reference counts: every value of a configuration has a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The path of the file in the operator's spelling.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Width of the underline in characters; at least 1.
    pub width: u32,
    /// The path of the value, as in `routes[2].upstream`; empty for the whole file.
    pub path: Arc<str>,
}

impl Place {
    /// The place of a value that is in no file: a default, or a value made by a test.
    pub fn nowhere() -> Self {
        Self { file: Arc::from(""), line: 1, column: 1, width: 1, path: Arc::from("") }
    }
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is rejected.
    Error,
    /// The configuration is accepted, with a warning.
    Warning,
}

/// One problem: what is wrong, where, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The severity.
    pub severity: Severity,
    /// The place; the loader adds it if the author of the message did not know it.
    pub place: Option<Place>,
    /// One sentence without a full stop, in lower case, like rustc's messages.
    pub message: String,
    /// Text beside the underline, for instance ``did you mean `x`?``.
    // Boxed, to keep the problem small enough for the error of a `Result`.
    pub label: Option<Box<str>>,
    /// How to fix it, one sentence per line.
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

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(message) }
    }

    /// Sets the place, unless one is set already.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    /// Sets the text beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    /// Adds a help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds ``did you mean `near`?`` if one of `known` is similar to `written`.
    #[must_use]
    pub fn suggest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, known).first() {
            Some(name) => self.label(Self::meant(name)),
            None => self,
        }
    }

    /// The text of a suggestion.
    pub(crate) fn meant(name: &str) -> String {
        format!("did you mean `{name}`?")
    }
}

/// The names that are similar to `written`, the nearest first.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = (written.chars().count() / 3).max(1) + 1;
    let distance = |name: &'a str| (strsim::damerau_levenshtein(written, name), name);
    let mut near: Vec<_> =
        known.into_iter().map(distance).filter(|(distance, _)| *distance <= limit).collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems, sorted by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a problem.
    pub fn push(&mut self, problem: impl Into<Problem>) {
        self.0.push(problem.into());
    }

    /// Adds all problems of another list.
    pub fn extend(&mut self, other: Problems) {
        self.0.extend(other.0);
    }

    /// Returns the value of `result`, or records its problems.
    pub fn keep<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                self.extend(problems);
                None
            }
        }
    }

    /// Whether one of them is an error.
    pub fn refuse(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Sets `place` where none is set.
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
