//! Threads that compute password hashes, shared by all entries. They start with the first password. Their queue is
//! short: with a full queue a flood of wrong passwords is rejected. Cached passwords do not use the pool.

use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use tokio::sync::oneshot;

/// The maximum number of queued passwords: with the usual 60 ms each, about two seconds of a thread.
const QUEUE: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

pub(super) struct HashPool(SyncSender<Job>);

static HASH_POOL: OnceLock<HashPool> = OnceLock::new();

impl HashPool {
    /// Queues a slow computation; `None` if the queue is full.
    pub(super) fn submit(
        computation: impl FnOnce() -> bool + Send + 'static,
    ) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // A cancelled request needs no computation.
            if !sender.is_closed() {
                let _ = sender.send(computation());
            }
        });
        HASH_POOL.get_or_init(Self::open).0.try_send(job).ok().map(|()| receiver)
    }

    fn open() -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        // At most half of the CPUs: the others serve requests.
        let threads = thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        for _ in 0..threads {
            let queue = queue.clone();
            let work = move || work(&queue);
            // Without a thread every password is rejected.
            if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(work) {
                log::error!(error:% = error; "password hash threads not started");
            }
        }
        Self(jobs)
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is released before the computation.
        let job = queue.lock().recv();
        let Ok(job) = job else { return };
        // A panic affects only its request: the sender of the result is dropped.
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
        let mut queued = Vec::new();
        loop {
            let (release, wait) = channel::<()>();
            // Other tests use the pool meanwhile; they wait for these.
            match HashPool::submit(move || wait.recv().is_ok()) {
                Some(result) => queued.push((release, result)),
                None => break,
            }
            assert!(queued.len() <= QUEUE + 8, "the queue is bounded");
        }
        for (release, _) in &queued {
            release.send(()).unwrap();
        }
        assert!(queued.into_iter().all(|(_, result)| result.blocking_recv().unwrap()));
        for _ in 0..8 {
            assert!(HashPool::submit(|| panic!("as the test wants")).unwrap().blocking_recv().is_err());
        }
        assert!(HashPool::submit(|| true).unwrap().blocking_recv().unwrap());
    }
}
