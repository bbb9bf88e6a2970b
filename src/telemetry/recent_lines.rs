//! The last lines of the access log and of the process log, for the admin API.
//!
//! The writer threads of the logs copy every batch that they write, so that a request pays nothing for it.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The bytes that are kept of each log.
const CAPACITY: usize = 256 << 10;

/// The last lines of the access log.
pub(crate) static ACCESS_LOG: RecentLines = RecentLines::new();

/// The last lines of the process log.
pub(crate) static PROCESS_LOG: RecentLines = RecentLines::new();

/// The last lines of one log.
#[derive(Debug)]
pub(crate) struct RecentLines {
    /// Off without an admin address, which alone shows them.
    is_kept: AtomicBool,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Whole lines.
    bytes: VecDeque<u8>,
    /// The position of the end, counted from the first line of the process.
    end: u64,
}

/// Lines after a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LinesSince {
    /// The lines, without line feeds. Invalid UTF-8 is replaced.
    pub lines: Vec<String>,
    /// The position after them.
    pub end: u64,
    /// Whether lines in between are no longer kept.
    pub has_gap: bool,
}

impl RecentLines {
    const fn new() -> Self {
        Self { is_kept: AtomicBool::new(false), ring: Mutex::new(Ring { bytes: VecDeque::new(), end: 0 }) }
    }

    /// Keeps lines from now on.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Relaxed);
    }

    /// Keeps no lines from now on.
    pub(crate) fn forget(&self) {
        self.is_kept.store(false, Relaxed);
        let mut ring = self.ring.lock();
        ring.bytes.clear();
        ring.bytes.shrink_to_fit();
    }

    /// Adds whole lines.
    pub(super) fn push(&self, lines: &[u8]) {
        if !self.is_kept.load(Relaxed) || lines.is_empty() {
            return;
        }
        let mut ring = self.ring.lock();
        ring.end += lines.len() as u64;
        let kept = &lines[lines.len().saturating_sub(CAPACITY)..];
        ring.bytes.extend(kept);
        let excess = ring.bytes.len().saturating_sub(CAPACITY);
        if excess > 0 || kept.len() < lines.len() {
            // What remains begins with a whole line.
            let cut = ring.bytes.iter().skip(excess).position(|byte| *byte == b'\n');
            let cut = cut.map_or(ring.bytes.len(), |at| excess + at + 1);
            ring.bytes.drain(..cut);
        }
    }

    /// The lines after `position`; 0 is the oldest kept one.
    pub(crate) fn since(&self, position: u64) -> LinesSince {
        let ring = self.ring.lock();
        let start = ring.end - ring.bytes.len() as u64;
        let skipped = usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = ring.bytes.iter().skip(skipped).copied().collect();
        let end = ring.end;
        drop(ring);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        LinesSince {
            lines: lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect(),
            end,
            has_gap: position > 0 && position < start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_from_a_position() {
        let recent = RecentLines::new();
        recent.push(b"before\n");
        recent.keep();
        recent.push(b"one\ntwo\n");
        let first = recent.since(0);
        assert_eq!((first.lines.as_slice(), first.has_gap), (&["one", "two"].map(str::to_owned)[..], false));
        assert_eq!(recent.since(first.end).lines, Vec::<String>::new());
        recent.push(b"thr\xffee\n");
        assert_eq!(recent.since(first.end).lines, ["thr\u{fffd}ee"]);
    }

    #[test]
    fn old_lines_are_dropped_as_a_whole_and_a_gap_is_told() {
        let recent = RecentLines::new();
        recent.keep();
        recent.push(b"first\n");
        let position = recent.since(0).end;
        let line = [&[b'x'; 999][..], b"\n"].concat();
        (0..300).for_each(|_| recent.push(&line));
        let since = recent.since(position);
        assert!(since.has_gap && since.lines.iter().all(|line| line.len() == 999), "{since:?}");
        assert_eq!(since.lines.len(), CAPACITY / 1000);
        recent.push(&line.repeat(300));
        assert!(recent.since(0).lines.iter().all(|line| line.len() == 999));
    }
}
