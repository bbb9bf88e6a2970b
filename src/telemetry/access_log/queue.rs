//! The lines between requests and the writer: one buffer under one short lock, bounded by bytes. A full buffer drops, it never waits.

use crate::telemetry::metrics;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long lines gather before they are written. Short enough for `tail -f`, long enough to make writes rare.
const GATHER: Duration = Duration::from_millis(50);

/// Where the writer is, so that a request wakes it only when that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    /// Waits for the first line.
    Idle,
    /// Lets lines gather until a moment, or until the buffer is half full.
    Gathering,
    /// At work, or already called.
    Awake,
}

#[derive(Debug)]
struct QueueInner {
    lines: Vec<u8>,
    stage: QueueState,
    /// Bytes taken from requests, and bytes that were written or given up, since the start.
    taken: u64,
    settled: u64,
    urgent: bool,
    closed: bool,
    finished: bool,
    exchange: Option<File>,
}

/// Lines that wait for the writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueInner>,
    /// For the writer: something to do.
    work: Condvar,
    /// For those who flush: something was done.
    done: Condvar,
    limit: usize,
    dropped: AtomicU64,
}

/// What the writer has to do next.
#[derive(Debug)]
pub(super) struct Work {
    /// Written to from now on, after a rotation.
    pub(super) exchange: Option<File>,
    /// Whether this is the last of it.
    pub(super) last: bool,
}

impl Queue {
    /// A queue of at most `limit` bytes, reserved now: no request ever grows it.
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

    /// Takes one line, or drops and counts it.
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
            // Noted here, so that the lines behind this one do not call again.
            state.stage = QueueState::Awake;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Counts lines that will never be written.
    pub(super) fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
        metrics::global().access_log_dropped(lines);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes go to `file` from the next batch on.
    pub(super) fn exchange(&self, file: File) {
        let mut state = self.state.lock();
        state.exchange = Some(file);
        self.call(state);
    }

    /// Takes no more lines.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.call(state);
    }

    /// Waits until all lines taken so far are settled.
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

    /// For the writer: waits for work and exchanges the gathered lines for the empty `batch`.
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

    /// For the writer: `bytes` are written or given up.
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
        // A limit too far to be a moment is no limit that anybody meets.
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

/// An empty buffer of `limit` bytes; the system gives the memory only as it is touched.
pub(super) fn buffer(limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(limit).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(bytes)
}
