//! A rate limit on log lines of scripts and filters.

use crate::token_bucket::{TokenBucket, TokenRate, nanoseconds};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines at once, and a second.
const LINES: u32 = 100;

/// The lines of one entry: 100 at once and 100 a second, those beyond are counted.
#[derive(Debug)]
pub struct LineLimit {
    rate: TokenRate,
    begun: Instant,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    taken: TokenBucket,
    left_out: u32,
}

impl Default for LineLimit {
    fn default() -> Self {
        let rate = TokenRate::every(Duration::from_secs(1) / LINES, LINES);
        Self { rate, begun: Instant::now(), lines: Mutex::default() }
    }
}

impl LineLimit {
    /// The number of lines dropped since the last one written; `None` if this one is to be dropped too.
    pub fn admit(&self) -> Option<u32> {
        self.admit_at(nanoseconds(self.begun.elapsed()))
    }

    fn admit_at(&self, now: u64) -> Option<u32> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.taken.try_take(&self.rate, self.rate.cost(1), now).is_err() {
            lines.left_out = lines.left_out.saturating_add(1);
            return None;
        }
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let limit = LineLimit::default();
        let written = (0..250).filter(|_| limit.admit_at(0).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!(limit.admit_at(10_000_000), Some(150));
        assert_eq!(limit.admit_at(10_000_000), None);
        assert_eq!(limit.admit_at(5_000_000_000), Some(1));
    }
}
