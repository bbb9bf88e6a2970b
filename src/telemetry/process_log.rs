//! Queue of the process log to standard error: a stopped terminal or a hanging collector must not block
//! threads that log.

use super::access_log::{FormattedLine, Lines};
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The queue's limit in bytes; further lines are dropped and counted.
const QUEUE_LIMIT: u64 = 1 << 20;

static LOG: OnceLock<Arc<Lines>> = OnceLock::new();

/// The logger's writer. Each write is one line.
#[derive(Debug)]
pub struct ProcessLog(Arc<Lines>);

/// Opens the queue; once per process.
///
/// # Errors
/// The thread cannot be started, or memory cannot be allocated.
pub fn open() -> io::Result<ProcessLog> {
    let lines = Arc::new(Lines::open("stderr", QUEUE_LIMIT)?);
    // A second writer would use the same descriptor; `flush` uses the first one.
    let _ = LOG.set(Arc::clone(&lines));
    Ok(ProcessLog(lines))
}

/// Waits until every logged line is written, for at most `within`.
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
