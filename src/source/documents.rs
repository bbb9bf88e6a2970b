//! The documents of a source with their versions, and what the status says of them.

use crate::config::{self, Document};
use crate::diagnostics::{self, Color, Sources};
use moongate_config::{Problem, Problems};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The largest document, in bytes.
pub(super) const LARGEST: usize = 4 << 20;

/// A document in use, for another process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct DocumentState {
    /// What the source reads.
    pub source: String,
    /// The key of the document.
    pub key: String,
    /// The text.
    pub text: String,
}

/// A document that is not in use, or not in its current version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedDocument {
    /// Its key.
    pub document: Arc<str>,
    /// The place of its first problem, as `etcd /moongate/shop.yaml:12:5`.
    pub place: Arc<str>,
    /// Its first problem.
    pub error: Arc<str>,
    /// All its problems.
    pub report: Arc<str>,
    /// Whether an earlier version is in use.
    pub has_earlier_version: bool,
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// What it reads, as `etcd /moongate/`.
    pub source: Arc<str>,
    /// When it was read last without an error, in Unix milliseconds; `None` before.
    pub last_success: Option<u64>,
    /// Why the last read failed; `None` if it did not.
    pub error: Option<Arc<str>>,
    /// The documents in use.
    pub documents: usize,
    /// The documents that are not in use, or not in their current version.
    pub rejected: usize,
    /// The first of them.
    pub rejections: Vec<RejectedDocument>,
}

/// Why a version of a document is not in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) place: Arc<str>,
    pub(super) error: Arc<str>,
    pub(super) report: Arc<str>,
}

impl Rejection {
    pub(super) fn of(problems: &Problems, sources: &Sources) -> Self {
        let first = problems.0.iter().find(|problem| is_error(problem)).or(problems.0.first());
        let place = first.and_then(|problem| problem.place.as_ref());
        Self {
            place: place
                .map_or_else(String::new, |at| format!("{}:{}:{}", at.file, at.line, at.column))
                .into(),
            error: first.map_or("", |problem| &problem.message).into(),
            report: diagnostics::render(problems, sources, Color::Never).into(),
        }
    }
}

fn is_error(problem: &Problem) -> bool {
    problem.severity == moongate_config::Severity::Error
}

/// One version of a document.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) text: Arc<str>,
    /// The document, if it is valid alone.
    pub(super) read: Result<Arc<Document>, Rejection>,
}

impl Version {
    /// Reads a version.
    pub(super) fn read(origin: &str, key: &str, bytes: &[u8]) -> Self {
        let name: Arc<str> = format!("{} {key}", origin.split(' ').next().unwrap_or_default()).into();
        let refuse = |problem: Problem, text: &str| {
            let mut sources = Sources::default();
            sources.insert(Arc::clone(&name), text.to_owned());
            let place =
                moongate_config::Place { file: Arc::clone(&name), ..moongate_config::Place::nowhere() };
            Rejection::of(&problem.at(&place).into(), &sources)
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if text.len() > LARGEST => {
                let problem = Problem::new(format!("the document is larger than {} MiB", LARGEST >> 20));
                return Self { text: "".into(), read: Err(refuse(problem, "")) };
            }
            Ok(text) => Arc::<str>::from(text),
            Err(error) => {
                let problem = Problem::new(format!("the document is not UTF-8 text: {error}"));
                return Self { text: String::from_utf8_lossy(bytes).into(), read: Err(refuse(problem, "")) };
            }
        };
        let read = config::load_document(&name, key, &text).map(Arc::new).map_err(|problems| {
            let mut sources = Sources::default();
            sources.insert(Arc::clone(&name), text.to_string());
            Rejection::of(&problems, &sources)
        });
        Self { text, read }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.text == other.text && self.read.is_ok() == other.read.is_ok()
    }
}
