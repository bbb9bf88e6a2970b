//! Queue between requests and the writer: one buffer under one short lock, bounded by bytes. A full queue
//! drops lines and never blocks.

use crate::telemetry::metrics;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time for lines to collect before a write: short enough for `tail -f`, long enough to make writes rare.
const GATHER: Duration = Duration::from_millis(50);

/// The writer's state, so that a request wakes the writer only if needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    /// Waiting for the first line.
    Idle,
    /// Waiting for more lines, until a deadline or until the buffer is half full.
    Gathering,
    /// Writing, or already woken.
    Awake,
}

#[derive(Debug)]
struct QueueInner {
    lines: Vec<u8>,
    stage: QueueState,
    /// Bytes accepted, and bytes written or dropped, since the start.
    taken: u64,
    settled: u64,
    urgent: bool,
    closed: bool,
    finished: bool,
    exchange: Option<File>,
}

/// The queue of lines.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueInner>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes callers of `flush`.
    done: Condvar,
    limit: usize,
    dropped: AtomicU64,
}

/// The writer's next work.
#[derive(Debug)]
pub(super) struct Work {
    /// The new file after a rotation.
    pub(super) exchange: Option<File>,
    /// Whether the queue is closed and empty.
    pub(super) last: bool,
}

impl Queue {
    /// A queue of at most `limit` bytes, reserved now, so that no request allocates.
    pub(super) fn new(limit: usize) -> io::Result<Self> {
        let state = QueueInner {
            lines: buffer(limit)?,
            stage: QueueState::Awake,
            taken: 0,
            settled: 0,
            urgent: false,
            closed: false,
            finished: false,
            exchange: None,
        };
        Ok(Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            limit,
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds one line, or drops and counts it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.closed || state.lines.len() + line.len() > self.limit {
            drop(state);
            self.lost(1);
            return;
        }
        state.lines.extend_from_slice(line);
        state.taken += line.len() as u64;
        let call = match state.stage {
            QueueState::Idle => true,
            QueueState::Gathering => state.lines.len() >= self.limit / 2,
            QueueState::Awake => false,
        };
        if call {
            // Set here, so that later lines do not wake the writer again.
            state.stage = QueueState::Awake;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Counts lines that will not be written.
    pub(super) fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
        metrics::global().access_log_dropped(lines);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Directs writes to `file` from the next batch on.
    pub(super) fn exchange(&self, file: File) {
        let mut state = self.state.lock();
        state.exchange = Some(file);
        self.call(state);
    }

    /// Refuses further lines.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.call(state);
    }

    /// Waits until all accepted lines are written or dropped.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.state.lock();
        let goal = state.taken;
        if state.settled < goal {
            state.urgent = true;
            self.work.notify_one();
        }
        self.wait(state, within, |state| state.settled >= goal)
    }

    /// Waits until the writer has ended.
    pub(super) fn finished(&self, within: Duration) -> bool {
        self.wait(self.state.lock(), within, |state| state.finished)
    }

    /// For the writer: waits for work and swaps the queued lines with the empty `batch`.
    pub(super) fn work(&self, batch: &mut Vec<u8>) -> Work {
        let mut state = self.state.lock();
        while state.lines.is_empty() && state.exchange.is_none() && !state.closed {
            state.stage = QueueState::Idle;
            self.work.wait(&mut state);
        }
        let until = Instant::now() + GATHER;
        while !state.hurries() && state.lines.len() < self.limit / 2 {
            state.stage = QueueState::Gathering;
            if self.work.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.stage = QueueState::Awake;
        state.urgent = false;
        std::mem::swap(&mut state.lines, batch);
        Work { exchange: state.exchange.take(), last: state.closed }
    }

    /// For the writer: marks `bytes` as written or dropped.
    pub(super) fn release(&self, bytes: usize, last: bool) {
        let mut state = self.state.lock();
        state.settled += bytes as u64;
        state.finished = last;
        drop(state);
        self.done.notify_all();
    }

    fn call(&self, mut state: MutexGuard<'_, QueueInner>) {
        state.stage = QueueState::Awake;
        drop(state);
        self.work.notify_one();
    }

    fn wait(
        &self,
        mut state: MutexGuard<'_, QueueInner>,
        within: Duration,
        met: impl Fn(&QueueInner) -> bool,
    ) -> bool {
        // An overflowing deadline means no deadline.
        let until = Instant::now().checked_add(within);
        while !met(&state) {
            match until {
                Some(until) if self.done.wait_until(&mut state, until).timed_out() => return met(&state),
                Some(_) => {}
                None => self.done.wait(&mut state),
            }
        }
        true
    }
}

impl QueueInner {
    fn hurries(&self) -> bool {
        self.urgent || self.closed || self.exchange.is_some()
    }
}

/// An empty buffer of `limit` bytes; the system commits the memory as it is used.
pub(super) fn buffer(limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(limit).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(bytes)
}
