//! The thread that writes what has gathered. It alone waits for disks and pipes, and it alone complains, once a minute at most.

use super::queue::{self, Queue};
use super::sink::Sink;
use crate::telemetry::metrics;
use moongate_sdk::call_caught;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Between two complaints.
const QUIET: Duration = Duration::from_secs(60);

/// Says what went wrong, but not with every batch.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    /// Lost lines that were spoken of already.
    told: u64,
}

/// A thread that waits for what it is to write to. Without it, it ends.
pub(super) struct Writer(SyncSender<Sink>);

impl Writer {
    /// Begins to write.
    pub(super) fn write_to(self, sink: Sink) {
        // The thread waits for it.
        let _ = self.0.send(sink);
    }
}

/// Starts the thread. It ends when the queue is closed and empty.
pub(super) fn start(queue: Arc<Queue>) -> io::Result<Writer> {
    let mut batch = queue::buffer(queue.limit())?;
    let (sender, receiver) = sync_channel::<Sink>(1);
    thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        let Ok(mut sink) = receiver.recv() else { return };
        let mut complaints = Complaints::default();
        // A panic costs the lines of one batch.
        while call_caught(|| run(&queue, &mut sink, &mut batch, &mut complaints)).is_none() {
            metrics::global().tasks().restarted("access_log");
            queue.release(batch.len(), false);
            batch.clear();
        }
    })?;
    Ok(Writer(sender))
}

fn run(queue: &Queue, sink: &mut Sink, batch: &mut Vec<u8>, complaints: &mut Complaints) {
    loop {
        let work = queue.work(batch);
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

impl Complaints {
    fn consider(&mut self, sink: &Sink, lost: u64, error: Option<io::Error>) {
        let quiet = self.last.is_some_and(|last| last.elapsed() < QUIET);
        if quiet || (lost == self.told && error.is_none()) {
            return;
        }
        let (path, lines) = (sink.target().name(), lost - self.told);
        match error {
            Some(error) => {
                log::error!(path:%, lines, error:%; "access log cannot be written; its lines are lost");
            }
            None => {
                log::warn!(path:%, lines; "access log is slower than its lines come; some are lost");
            }
        }
        (self.last, self.told) = (Some(Instant::now()), lost);
    }
}
