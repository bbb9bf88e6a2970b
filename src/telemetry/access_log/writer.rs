//! Writer thread of a log. Only this thread waits for disks and pipes, and it reports problems at most once a
//! minute.

use super::queue::{self, Queue};
use super::sink::Sink;
use crate::telemetry::metrics;
use crate::telemetry::recent_lines::RecentLines;
use moongate_sdk::call_caught;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The minimum time between two reports.
const QUIET: Duration = Duration::from_secs(60);

/// Rate-limited reports of lost lines.
#[derive(Debug, Default)]
struct WriteFailureLog {
    last: Option<Instant>,
    /// Lost lines that were already reported.
    reported: u64,
}

/// A thread that waits for its sink; it ends if none is given.
pub(super) struct Writer(SyncSender<Sink>);

impl Writer {
    /// Starts to write.
    pub(super) fn write_to(self, sink: Sink) {
        // The thread is waiting, so sending cannot fail.
        let _ = self.0.send(sink);
    }
}

/// Starts the thread, which ends when the queue is closed and empty. What it writes is copied to `recent`.
pub(super) fn start(queue: Arc<Queue>, recent: &'static RecentLines) -> io::Result<Writer> {
    let mut batch = queue::buffer(queue.limit())?;
    let (sender, receiver) = sync_channel::<Sink>(1);
    thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        let Ok(mut sink) = receiver.recv() else { return };
        let mut complaints = WriteFailureLog::default();
        // A panic loses the lines of one batch.
        while call_caught(|| run(&queue, &mut sink, &mut batch, recent, &mut complaints)).is_none() {
            metrics::global().tasks().restarted("access_log");
            queue.release(batch.len(), false);
            batch.clear();
        }
    })?;
    Ok(Writer(sender))
}

fn run(
    queue: &Queue,
    sink: &mut Sink,
    batch: &mut Vec<u8>,
    recent: &RecentLines,
    complaints: &mut WriteFailureLog,
) {
    loop {
        let work = queue.work(batch);
        recent.push(batch);
        if let Some(file) = work.exchange {
            sink.exchange(file);
        }
        let outcome = if batch.is_empty() { Ok(()) } else { sink.write(batch) };
        let error = outcome.map_err(|failed| {
            queue.lost(failed.lines);
            failed.error
        });
        complaints.consider(sink, queue.dropped(), error.err());
        queue.release(batch.len(), work.last);
        if work.last {
            return;
        }
        batch.clear();
    }
}

impl WriteFailureLog {
    fn consider(&mut self, sink: &Sink, lost: u64, error: Option<io::Error>) {
        let quiet = self.last.is_some_and(|last| last.elapsed() < QUIET);
        if quiet || (lost == self.reported && error.is_none()) {
            return;
        }
        let (path, lines) = (sink.target().name(), lost - self.reported);
        match error {
            Some(error) => {
                log::error!(path:%, lines, error:%; "access log not written; lines lost");
            }
            None => {
                log::warn!(path:%, lines; "access log buffer full; lines dropped");
            }
        }
        (self.last, self.reported) = (Some(Instant::now()), lost);
    }
}
