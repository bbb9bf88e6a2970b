//! A rate limit on log lines of scripts and filters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines per second.
const LINES: u32 = 100;

/// The limit of one entry: at most 100 lines per second; those beyond are counted.
#[derive(Debug, Default)]
pub struct LineLimit(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    lines: u32,
    left_out: u32,
}

impl LineLimit {
    /// The number of lines dropped since the last one written; `None` if this one is to be dropped too.
    pub fn admit(&self) -> Option<u32> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if second.began.is_none_or(|began| now - began >= Duration::from_secs(1)) {
            second.began = Some(now);
            second.lines = 0;
        }
        if second.lines >= LINES {
            second.left_out = second.left_out.saturating_add(1);
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let limit = LineLimit::default();
        let written = (0..250).filter(|_| limit.admit().is_some()).count();
        assert_eq!(written, 100);
        limit.0.lock().unwrap().began = None;
        assert_eq!(limit.admit(), Some(150));
    }
}
