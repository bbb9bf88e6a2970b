//! A bound on what scripts and filters write into the process's log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines a second.
const LINES: u32 = 100;

/// The lines of one entry: at most 100 a second, those beyond are counted.
#[derive(Debug, Default)]
pub struct LineLimit(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    lines: u32,
    left_out: u32,
}

impl LineLimit {
    /// How many lines were left out since the last one that was written; `None` when this one is to be left out too.
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
    fn lines_beyond_the_limit_are_left_out_and_counted() {
        let limit = LineLimit::default();
        let written = (0..250).filter(|_| limit.admit().is_some()).count();
        assert_eq!(written, 100);
        limit.0.lock().unwrap().began = None;
        assert_eq!(limit.admit(), Some(150));
    }
}
