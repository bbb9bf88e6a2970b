//! The last lines of the access log and of the process log, filtered and followed.

use super::query::Query;
use crate::telemetry::recent_lines::{ACCESS_LOG, LinesSince, PROCESS_LOG, RecentLines};
use serde::Serialize;

/// Lines of a first event, and of a call without `lines`.
const DEFAULT_LINES: usize = 200;

/// The most lines of one response.
const MAX_LINES: usize = 5000;

/// One of the two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum LogSource {
    Access,
    Process,
}

impl LogSource {
    fn lines(self) -> &'static RecentLines {
        match self {
            Self::Access => &ACCESS_LOG,
            Self::Process => &PROCESS_LOG,
        }
    }
}

/// Follows one log.
#[derive(Debug)]
pub(super) struct Follower {
    source: LogSource,
    /// In lower case; empty for every line.
    filter: String,
    position: u64,
    most: usize,
    has_begun: bool,
}

/// Lines of a log.
#[derive(Debug, Serialize)]
pub(super) struct LogLines {
    source: LogSource,
    lines: Vec<String>,
    /// Whether lines before these are no longer kept.
    missed: bool,
}

/// The logs that `log=access|process|both` names, with `filter` and `lines`.
///
/// # Errors
/// A description of what is wrong.
pub(super) fn followers(query: &Query) -> Result<Vec<Follower>, String> {
    let sources: &[LogSource] = match query.get("log").unwrap_or("both") {
        "access" => &[LogSource::Access],
        "process" => &[LogSource::Process],
        "both" => &[LogSource::Access, LogSource::Process],
        other => return Err(format!("unknown log `{other}`; `log` is access, process or both")),
    };
    let most = query.number("lines", DEFAULT_LINES, (1, MAX_LINES))?;
    let filter = query.get("filter").unwrap_or_default().to_lowercase();
    let follower = |source: &LogSource| Follower {
        source: *source,
        filter: filter.clone(),
        position: 0,
        most,
        has_begun: false,
    };
    Ok(sources.iter().map(follower).collect())
}

impl Follower {
    /// The last lines at first, then new ones; `None` without any.
    pub(super) fn next(&mut self) -> Option<LogLines> {
        let LinesSince { lines, end, has_gap } = self.source.lines().since(self.position);
        self.position = end;
        let mut lines: Vec<_> = lines
            .into_iter()
            .map(|line| without_colors(&line))
            .filter(|line| self.filter.is_empty() || line.to_lowercase().contains(&self.filter))
            .collect();
        let excess = lines.len().saturating_sub(self.most);
        lines.drain(..excess);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let missed = has_gap || (!is_first && excess > 0);
        (is_first || missed || !lines.is_empty()).then_some(LogLines { source: self.source, lines, missed })
    }
}

/// Removes the sequences that colour a line on a terminal.
fn without_colors(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(without_colors("[\u{1b}[32mINFO\u{1b}[0m] text"), "[INFO] text");
        assert_eq!(without_colors("plain \u{1b}[3"), "plain ");
    }

    #[test]
    fn a_wrong_log_is_told() {
        assert!(followers(&Query::parse("log=none")).is_err());
        assert!(followers(&Query::parse("lines=0")).is_err());
        assert_eq!(followers(&Query::parse("")).map(|all| all.len()), Ok(2));
    }
}
