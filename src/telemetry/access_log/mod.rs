//! Access log: one line per request, written by a separate thread.
//!
//! A request formats its line in a thread-local buffer and appends it to a queue under a lock, held for one
//! copy. The writer thread writes queued lines about twenty times per second. A request makes no system call,
//! usually wakes no thread, and never waits for a disk: with a full queue, its line is dropped and counted.
//!
//! Callers select the requests to log, and rotate files through [`AccessLog::reopen`].

mod combined;
mod entry;
mod escape;
mod field;
mod json;
pub(super) mod json_record;
mod queue;
mod sampling;
mod sink;
mod template;
#[cfg(test)]
mod tests;
mod timestamp;
mod writer;

pub(crate) use entry::{Closed, Entry, Event, FailoverRecord, Flow, Note};
pub(crate) use escape::address;
pub(crate) use field::Field;
pub(crate) use sampling::{SampleRatio, Sampling, SamplingRule};
pub(crate) use template::Template;

use super::recent_lines::{self, RecentLines};
use queue::Queue;
use sampling::LineFacts;
use sink::{Sink, Target};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use timestamp::Timestamp;

/// The capacity of a thread's line buffer; a longer line's memory is released.
const LINE_KEPT: usize = 16 << 10;

/// The smallest and the largest buffer: one page, and 1 GiB.
const BUFFER: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;

/// The format of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    /// One JSON object per line, of these fields in this order.
    Json(Box<[Field]>),
    /// Apache's combined format. A WebSocket has one line, written when it ends.
    Combined,
    /// The operator's template.
    Template(Template),
}

/// The format of the lines, and which of them are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LineSettings {
    /// The format.
    pub format: Format,
    /// The rules of sampling; none: every line is written.
    pub sampling: Option<Sampling>,
}

/// An open access log. After the last handle is dropped, the writer thread writes queued lines and ends;
/// [`AccessLog::close`] waits for it.
#[derive(Debug)]
pub struct AccessLog {
    lines: LineSettings,
    target: Target,
    queue: Arc<Queue>,
}

/// A formatted line, with its line feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormattedLine<'a>(pub &'a [u8]);

/// A queue and writer for lines that are formatted elsewhere.
#[derive(Debug)]
pub(crate) struct Lines(Arc<Queue>);

impl Lines {
    /// As [`AccessLog::open`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open(path: &str, buffer: u64, recent: &'static RecentLines) -> io::Result<Self> {
        start(&Target::new(path), buffer, recent).map(Self)
    }

    /// Queues a line, or drops and counts it. Never blocks.
    pub(crate) fn push(&self, line: FormattedLine<'_>) {
        self.0.push(line.0);
    }

    /// Waits until every earlier line is written or counted as lost; returns false after the time limit.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        self.0.flush(within)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Opens `target` and starts its writer thread. The file is opened last, so that a failure creates no file.
fn start(target: &Target, buffer: u64, recent: &'static RecentLines) -> io::Result<Arc<Queue>> {
    let limit = buffer.clamp(*BUFFER.start(), *BUFFER.end()) as usize;
    let queue = Arc::new(Queue::new(limit)?);
    let writer = writer::start(Arc::clone(&queue), recent)?;
    writer.write_to(Sink::new(target.clone(), target.open()?));
    Ok(queue)
}

/// The thread-local buffers for formatting a line.
struct LineBuffer {
    line: Vec<u8>,
    stamp: Timestamp,
}

thread_local! {
    static PEN: RefCell<LineBuffer> = const { RefCell::new(LineBuffer { line: Vec::new(), stamp: Timestamp::new() }) };
}

impl AccessLog {
    /// Opens `path` (`stdout`, `stderr` or a file, which is appended to) and starts the thread that writes to it.
    ///
    /// `buffer` is the queue's limit in bytes, clamped to 4 KiB to 1 GiB. A line that does not fit is
    /// dropped.
    ///
    /// # Errors
    /// The file cannot be opened, the buffer cannot be allocated, or the thread cannot be started; without
    /// side effects.
    pub(crate) fn open(lines: LineSettings, path: &str, buffer: u64) -> io::Result<Arc<Self>> {
        let target = Target::new(path);
        let queue = start(&target, buffer, &recent_lines::ACCESS_LOG)?;
        Ok(Arc::new(Self { lines, target, queue }))
    }

    /// Checks that [`AccessLog::open`] can open `path`, without creating it.
    ///
    /// # Errors
    /// The reason why it cannot be opened.
    pub fn check(path: &str) -> io::Result<()> {
        Target::new(path).check()
    }

    /// Logs one entry. Never blocks. A request may be left out by sampling; the lines of a WebSocket never are, because
    /// [`AccessLog::keeps_websocket`] has decided for all of them.
    pub fn write(&self, entry: &Entry<'_>) {
        if let (Some(sampling), Event::Request) = (&self.lines.sampling, entry.event) {
            let (route, status, is_error) = (entry.route, entry.status, entry.error.is_some());
            if !sampling.keeps(LineFacts { route, status, is_error }) {
                return;
            }
        }
        self.write_at(entry, SystemTime::now());
    }

    /// Decides whether a WebSocket that opens with this status has lines.
    pub(crate) fn keeps_websocket(&self, route: &str, status: u16) -> bool {
        let facts = LineFacts { route, status, is_error: false };
        self.lines.sampling.as_ref().is_none_or(|sampling| sampling.keeps(facts))
    }

    /// Reopens the file after a rotation. Queued lines go to the new file.
    ///
    /// # Errors
    /// The file cannot be opened; the current one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.exchange(self.open_again()?);
        Ok(())
    }

    /// Reopens the file without using it yet; `None` for a standard stream.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_again(&self) -> io::Result<Option<File>> {
        self.target.is_file().then(|| self.target.open()).transpose()
    }

    /// Directs lines to this file from now on; `None` keeps the current one.
    pub fn exchange(&self, file: Option<File>) {
        if let Some(file) = file {
            self.queue.exchange(file);
        }
    }

    /// Waits until every earlier line is written or counted as lost; returns false after `within`.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.flush(within)
    }

    /// Closes the log and waits until the queued lines are written; returns false after `within`.
    pub fn close(&self, within: Duration) -> bool {
        self.queue.close();
        self.queue.finished(within)
    }

    /// Lines lost since the log was opened.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn write_at(&self, entry: &Entry<'_>, now: SystemTime) {
        // During thread teardown, or within formatting, the line is skipped instead of panicking.
        let _ = PEN.try_with(|pen| {
            let Ok(mut pen) = pen.try_borrow_mut() else { return };
            let LineBuffer { line, stamp } = &mut *pen;
            line.clear();
            stamp.update(now);
            self.lines.format.write(line, stamp, entry);
            if !line.is_empty() {
                self.queue.push(line);
            }
            line.shrink_to(LINE_KEPT);
        });
    }
}

impl Format {
    /// Appends the line of `entry`, if it has one in this format.
    fn write(&self, line: &mut Vec<u8>, stamp: &Timestamp, entry: &Entry<'_>) {
        match self {
            Self::Json(fields) => json::write(line, stamp, fields, entry),
            Self::Combined => combined::write(line, stamp, entry),
            Self::Template(template) => template.write(line, stamp, entry),
        }
    }
}

impl From<Format> for LineSettings {
    fn from(format: Format) -> Self {
        Self { format, sampling: None }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue.close();
    }
}
