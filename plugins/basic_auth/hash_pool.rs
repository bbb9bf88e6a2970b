//! The threads that compute hashes of passwords, shared by all entries. They start with the first
//! password, and a short queue stands before them: behind it a flood of wrong passwords is refused, and those
//! who are known already never come here.

use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use tokio::sync::oneshot;

/// How many passwords wait at most: with the usual 60 ms each, about two seconds of a thread.
const QUEUE: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

pub(super) struct Desk(SyncSender<Job>);

static DESK: OnceLock<Desk> = OnceLock::new();

impl Desk {
    /// Asks a question that takes long; nothing when too many are waiting.
    pub(super) fn ask(question: impl FnOnce() -> bool + Send + 'static) -> Option<oneshot::Receiver<bool>> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // Who gave up meanwhile needs no answer, and no work.
            if !answer.is_closed() {
                let _ = answer.send(question());
            }
        });
        DESK.get_or_init(Self::open).0.try_send(job).ok().map(|()| answered)
    }

    fn open() -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        // Half of the machine at most: requests are what it is for.
        let threads = thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        for _ in 0..threads {
            let queue = queue.clone();
            let work = move || work(&queue);
            // Without a thread every question is refused.
            if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(work) {
                log::error!(error:% = error; "no thread for passwords");
            }
        }
        Self(jobs)
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is let go before the work.
        let job = queue.lock().recv();
        let Ok(job) = job else { return };
        // A panic costs the one who asked: the sender of the answer is dropped.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_full_queue_refuses_and_a_panic_takes_no_thread() {
        let mut held = Vec::new();
        loop {
            let (release, wait) = channel::<()>();
            // Other tests ask meanwhile; they wait for these.
            match Desk::ask(move || wait.recv().is_ok()) {
                Some(answer) => held.push((release, answer)),
                None => break,
            }
            assert!(held.len() <= QUEUE + 8, "the queue has an end");
        }
        for (release, _) in &held {
            release.send(()).unwrap();
        }
        assert!(held.into_iter().all(|(_, answer)| answer.blocking_recv().unwrap()));
        for _ in 0..8 {
            assert!(Desk::ask(|| panic!("as the test wants")).unwrap().blocking_recv().is_err());
        }
        assert!(Desk::ask(|| true).unwrap().blocking_recv().unwrap());
    }
}
