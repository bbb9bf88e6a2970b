//! The last reloads, with their outcome and what they changed, for the admin API.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Reloads that are kept.
const ENTRIES: usize = 50;

/// The largest report or difference that is kept, in bytes.
const LARGEST_TEXT: usize = 256 << 10;

/// The time limit for finding a small difference; a larger one follows after it.
const LONGEST_COMPARISON: Duration = Duration::from_secs(2);

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// What began a reload.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadCause {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// The admin API.
    Api,
    /// A change of a source's documents.
    Source,
}

/// One reload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReloadEntry {
    /// Its number, from 1; upgrades do not begin anew.
    pub number: u64,
    /// When it ended, in Unix milliseconds.
    pub at: u64,
    /// What began it.
    pub cause: ReloadCause,
    /// Whether the configuration was applied.
    pub ok: bool,
    /// The number of the applied configuration.
    pub generation: Option<u64>,
    /// The time from its beginning to its end, in seconds.
    pub took: f64,
    /// The rendered warnings of an applied configuration.
    pub warnings: Option<String>,
    /// The rendered problems of a refused configuration.
    pub report: Option<String>,
    /// The difference to the previous configuration as a unified diff of the effective YAML without secrets; `None`
    /// without a change.
    pub diff: Option<String>,
}

/// The largest text for another process, in bytes: an entry is one message there.
const LARGEST_MOVED_TEXT: usize = 40 << 10;

impl ReloadEntry {
    /// The entry for another process.
    pub fn for_message(&self) -> Self {
        let short = |text: &Option<String>| text.clone().map(|text| bounded_to(LARGEST_MOVED_TEXT, text));
        let (warnings, report, diff) = (short(&self.warnings), short(&self.report), short(&self.diff));
        Self { warnings, report, diff, ..self.clone() }
    }
}

/// The last reloads.
#[derive(Debug, Default)]
pub struct ReloadHistory(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    all: VecDeque<Arc<ReloadEntry>>,
    added: u64,
}

impl ReloadHistory {
    pub(super) fn add(&self, entry: ReloadEntry) {
        let mut entries = self.0.lock();
        if entries.all.len() == ENTRIES {
            entries.all.pop_front();
        }
        entries.added += 1;
        let number = entries.added;
        let (warnings, report) = (entry.warnings.map(bounded), entry.report.map(bounded));
        entries.all.push_back(Arc::new(ReloadEntry { number, warnings, report, ..entry }));
    }

    /// Puts the reloads of another process, the oldest first, before those of this one.
    pub fn precede(&self, earlier: Vec<ReloadEntry>) {
        let mut entries = self.0.lock();
        let Some(last) = earlier.last().map(|entry| entry.number) else { return };
        entries.added += last;
        let own = entries
            .all
            .drain(..)
            .map(|entry| Arc::new(ReloadEntry { number: entry.number + last, ..ReloadEntry::clone(&entry) }));
        let all: Vec<_> = earlier.into_iter().map(Arc::new).chain(own).collect();
        let older = all.len().saturating_sub(ENTRIES);
        entries.all = all.into_iter().skip(older).collect();
    }

    /// The number of reloads so far, the start included.
    pub fn count(&self) -> u64 {
        self.0.lock().added
    }

    /// The kept reloads, the newest first.
    pub fn entries(&self) -> Vec<Arc<ReloadEntry>> {
        self.0.lock().all.iter().rev().cloned().collect()
    }
}

/// The difference of two texts; `None` if they are equal.
pub(super) fn difference(before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let diff = TextDiff::configure().timeout(LONGEST_COMPARISON).diff_lines(before, after);
    let text = diff.unified_diff().context_radius(CONTEXT).header("before", "after").to_string();
    Some(bounded(text))
}

/// The text, or its first lines.
fn bounded(text: String) -> String {
    bounded_to(LARGEST_TEXT, text)
}

fn bounded_to(largest: usize, mut text: String) -> String {
    if text.len() > largest {
        let end = text[..text.floor_char_boundary(largest)].rfind('\n').map_or(0, |at| at + 1);
        text.truncate(end);
        text.push_str("… the rest is not kept\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_difference_is_unified_and_bounded() {
        assert_eq!(difference("a\n", "a\n"), None);
        let text = difference("a\nb\nc\n", "a\nx\nc\n").unwrap();
        assert!(text.contains("-b\n+x\n") && text.starts_with("--- before\n+++ after\n"), "{text}");
        let long: String = (0..60_000).map(|number| format!("line {number}\n")).collect();
        let text = difference("", &long).unwrap();
        assert!(text.len() < LARGEST_TEXT + 100 && text.ends_with("is not kept\n"));
    }
}
