//! The thread that writes what has gathered. It alone waits for disks and pipes, and it alone complains, once a minute at most.

use super::queue::{self, Queue};
use super::sink::Sink;
use std::io;
use std::sync::Arc;
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

/// Starts the thread. It ends when the queue is closed and empty.
pub(super) fn start(queue: Arc<Queue>, sink: Sink) -> io::Result<()> {
    let batch = queue::buffer(queue.limit())?;
    thread::Builder::new().name("access-log".to_owned()).spawn(move || run(&queue, sink, batch))?;
    Ok(())
}

fn run(queue: &Queue, mut sink: Sink, mut batch: Vec<u8>) {
    let mut complaints = Complaints::default();
    loop {
        let work = queue.work(&mut batch);
        if let Some(file) = work.exchange {
            sink.exchange(file);
        }
        let outcome = if batch.is_empty() { Ok(()) } else { sink.write(&batch) };
        let error = outcome.map_err(|failed| {
            queue.lost(failed.lines);
            failed.error
        });
        complaints.consider(&sink, queue.dropped(), error.err());
        queue.settle(batch.len(), work.last);
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
