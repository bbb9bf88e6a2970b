//! What filters say, in the gateway's log: at most so many lines a second for each entry.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Lines a second.
const LINES: u32 = 100;

/// Bytes of a line.
const LENGTH: usize = 4096;

/// The tap of one entry.
#[derive(Debug, Default)]
pub(crate) struct Logs(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    lines: u32,
    left_out: u32,
}

impl Logs {
    /// Writes a line, unless the filter said too much in this second.
    pub(crate) fn say(&self, plugin: &str, level: log::Level, text: &[u8]) {
        if !log::log_enabled!(level) {
            return;
        }
        let Some(left_out) = self.turn() else { return };
        if left_out > 0 {
            log::warn!(plugin, lines = left_out; "a filter says too much; lines were left out");
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(LENGTH)]);
        log::log!(level, plugin; "{}", text.escape_debug());
    }

    /// Lines left out since the last that was written, or `None` when this one is left out too.
    fn turn(&self) -> Option<u32> {
        let mut second = self.0.lock();
        let now = Instant::now();
        if second.began.is_none_or(|began| now - began >= Duration::from_secs(1)) {
            second.began = Some(now);
            second.lines = 0;
        }
        if second.lines >= LINES {
            second.left_out += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_left_out_and_counted() {
        let logs = Logs::default();
        let written = (0..250).filter(|_| logs.turn().is_some()).count();
        assert_eq!(written, 100);
        logs.0.lock().began = None;
        assert_eq!(logs.turn(), Some(150));
    }
}
