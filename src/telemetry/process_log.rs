//! The process's own log on its way to standard error: through a bounded queue, like the access log,
//! for a terminal that was stopped or a collector that hangs must not hold up those who log.

use super::access_log::{FormattedLine, Lines};
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bytes that may wait; lines beyond are lost and counted.
const ROOM: u64 = 1 << 20;

static LOG: OnceLock<Arc<Lines>> = OnceLock::new();

/// A writer for the logger. Every write is one line.
#[derive(Debug)]
pub struct ProcessLog(Arc<Lines>);

/// Opens the way; once a process.
///
/// # Errors
/// When no thread or no memory can be had for it.
pub fn open() -> io::Result<ProcessLog> {
    let lines = Arc::new(Lines::open("stderr", ROOM)?);
    // A second one would be a second thread at the same descriptor; the first stays the one to flush.
    let _ = LOG.set(Arc::clone(&lines));
    Ok(ProcessLog(lines))
}

/// Waits until all that was logged is written, at most so long.
pub fn flush(within: Duration) {
    if let Some(lines) = LOG.get() {
        lines.flush(within);
    }
}

impl Write for ProcessLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(FormattedLine(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
