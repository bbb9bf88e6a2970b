//! The access log: a line for each request, at the price of formatting it.
//!
//! A request formats its line in a buffer of its thread and appends it under a lock that is held for one copy. A thread
//! of the log's own writes what has gathered, some twenty times a second, so a request makes no system call, wakes nobody
//! in the steady state, and never waits for a disk: when the buffer is full, its line is dropped and counted.
//!
//! Deciding which requests are logged stays out, and so does rotating files: [`AccessLog::reopen`] is for those who do.

mod combined;
mod entry;
mod escape;
mod json;
pub(super) mod json_record;
mod queue;
mod sink;
#[cfg(test)]
mod tests;
mod timestamp;
mod writer;

pub use entry::{Closed, Entry, Event, FailoverRecord, Flow, Note};
pub use escape::address;

use queue::Queue;
use sink::{Sink, Target};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use timestamp::Stamp;

/// What a thread keeps of its line buffer; a longer line gives back what it took.
const LINE_KEPT: usize = 16 << 10;

/// The smallest and the largest buffer: a page, and what no log needs.
const BUFFER: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Apache's combined format. A WebSocket has one line, written when it ends.
    Combined,
}

/// An open access log. Dropping the last handle lets its thread write what is left and end; [`AccessLog::close`] waits for that.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    target: Target,
    queue: Arc<Queue>,
}

/// A line that is formatted already, with its end.
#[derive(Clone, Copy, Debug)]
pub struct FormattedLine<'a>(pub &'a [u8]);

/// A queue with its writer for lines that somebody else formats.
#[derive(Debug)]
pub struct Lines(Arc<Queue>);

impl Lines {
    /// As [`AccessLog::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &str, buffer: u64) -> io::Result<Self> {
        start(&Target::new(path), buffer).map(Self)
    }

    /// Takes a line, or drops and counts it. Never waits.
    pub fn push(&self, line: FormattedLine<'_>) {
        self.0.push(line.0);
    }

    /// Waits until every line before is written, or counted as lost; false when that takes longer.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.flush(within)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Opens `target` and starts the thread that writes to it. The file comes last: whatever fails makes none.
fn start(target: &Target, buffer: u64) -> io::Result<Arc<Queue>> {
    let limit = buffer.clamp(*BUFFER.start(), *BUFFER.end()) as usize;
    let queue = Arc::new(Queue::new(limit)?);
    let writer = writer::start(Arc::clone(&queue))?;
    writer.write_to(Sink::new(target.clone(), target.open()?));
    Ok(queue)
}

/// What a thread needs to write lines without allocating.
struct Pen {
    line: Vec<u8>,
    stamp: Stamp,
}

thread_local! {
    static PEN: RefCell<Pen> = const { RefCell::new(Pen { line: Vec::new(), stamp: Stamp::new() }) };
}

impl AccessLog {
    /// Opens `path` (`stdout`, `stderr` or a file, which is appended to) and starts the thread that writes to it.
    ///
    /// `buffer` is how many bytes may wait for that thread; at least 4 KiB and at most 1 GiB are taken. A line that does not fit is dropped.
    ///
    /// # Errors
    /// When the file cannot be opened, the buffer cannot be had, or the thread cannot be started. Nothing else was touched then.
    pub fn open(format: Format, path: &str, buffer: u64) -> io::Result<Arc<Self>> {
        let target = Target::new(path);
        let queue = start(&target, buffer)?;
        Ok(Arc::new(Self { format, target, queue }))
    }

    /// Whether [`AccessLog::open`] can be expected to open `path`, found without creating it.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn check(path: &str) -> io::Result<()> {
        Target::new(path).check()
    }

    /// Logs one entry. Never waits for the file.
    pub fn write(&self, entry: &Entry<'_>) {
        self.write_at(entry, SystemTime::now());
    }

    /// Opens the file again, after it was moved away by a rotation. Lines that wait go to the new one.
    ///
    /// # Errors
    /// When the file cannot be opened; the one open so far stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.exchange(self.open_again()?);
        Ok(())
    }

    /// Opens the file again and leaves it at that; nothing for one of the standard streams.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open_again(&self) -> io::Result<Option<File>> {
        self.target.is_file().then(|| self.target.open()).transpose()
    }

    /// Lines go to this file from now on; to the one of before where there is none.
    pub fn exchange(&self, file: Option<File>) {
        if let Some(file) = file {
            self.queue.exchange(file);
        }
    }

    /// Waits until everything logged before is written, or counted as lost; false when that takes longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.flush(within)
    }

    /// Takes no more lines and waits until the ones taken are written; false when that takes longer than `within`.
    pub fn close(&self, within: Duration) -> bool {
        self.queue.close();
        self.queue.finished(within)
    }

    /// Lines of this log that were lost since it was opened.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn write_at(&self, entry: &Entry<'_>, now: SystemTime) {
        // A thread that is being torn down, or that logs while it formats, does without: it must not panic for a log line.
        let _ = PEN.try_with(|pen| {
            let Ok(mut pen) = pen.try_borrow_mut() else { return };
            let Pen { line, stamp } = &mut *pen;
            line.clear();
            stamp.update(now);
            match self.format {
                Format::Json => json::write(line, stamp, entry),
                Format::Combined => combined::write(line, stamp, entry),
            }
            if !line.is_empty() {
                self.queue.push(line);
            }
            line.shrink_to(LINE_KEPT);
        });
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue.close();
    }
}
