//! Thread pools for calls that may block forever: file systems and the system's resolver.
//!
//! Each kind of work has its own pool, so that a hanging call delays only its kind. The threads are never
//! joined: the process can end while they hang. A caller that stops waiting abandons its work, which is
//! dropped if it has not started.

use moongate_sdk::call_caught;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// The idle time after which a thread ends.
const IDLE: Duration = Duration::from_secs(10);

/// Files named by a configuration. Reloads are serialized, so a second thread is needed only if one hangs.
pub(crate) static RELOAD: BlockingPool = BlockingPool::new("reload", 4);

/// Refreshes of certificate files, one at a time.
pub(crate) static ROTATION: BlockingPool = BlockingPool::new("rotation", 1);

/// Reopening log files.
pub(crate) static LOGS: BlockingPool = BlockingPool::new("logs", 1);

/// Files of ACME certificates. One issuance runs at a time, and every certificate has files.
pub(crate) static ACME: BlockingPool = BlockingPool::new("acme", 4);

/// Work at the end of the process: the access log's last lines, and the files of Unix sockets.
pub(crate) static LAST_LINES: BlockingPool = BlockingPool::new("last-lines", 2);

/// Other files: the system's root certificates, `/etc/resolv.conf`, `/etc/hosts`.
pub(crate) static SYSTEM_FILES: BlockingPool = BlockingPool::new("files", 4);

/// `getaddrinfo`, for `resolver: system`.
pub(crate) static GETADDRINFO: BlockingPool = BlockingPool::new("getaddrinfo", 8);

/// The queue length at which abandoned work is removed.
const PRUNE_FROM: usize = 64;

/// Work for a thread of the pool.
trait Work: Send {
    /// Runs the work and sends the result.
    fn perform(self: Box<Self>);
    /// Whether the caller has stopped waiting.
    fn is_abandoned(&self) -> bool;
}

struct Job<T, F> {
    work: F,
    result: oneshot::Sender<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Work for Job<T, F> {
    fn perform(self: Box<Self>) {
        if !self.result.is_closed() {
            let Self { work, result } = *self;
            // A panic drops the sender, which reports it to the caller.
            let _ = result.send(work());
        }
    }

    fn is_abandoned(&self) -> bool {
        self.result.is_closed()
    }
}

/// The reason for the lack of a result.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The work panicked.
    #[error("panicked")]
    Panicked,
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    NoThread(io::Error),
    /// The work exceeded the caller's time limit.
    #[error("did not return within {0:?}")]
    TimedOut(Duration),
}

impl From<WorkError> for io::Error {
    fn from(halted: WorkError) -> Self {
        let kind = match halted {
            WorkError::TimedOut(_) => io::ErrorKind::TimedOut,
            WorkError::Panicked | WorkError::NoThread(_) => io::ErrorKind::Other,
        };
        Self::new(kind, halted.to_string())
    }
}

/// A bounded number of detached threads with a queue.
pub(crate) struct BlockingPool {
    name: &'static str,
    limit: usize,
    state: Mutex<PoolState>,
    queued: Condvar,
}

struct PoolState {
    queue: VecDeque<Box<dyn Work>>,
    /// The queue length at which abandoned work is removed.
    prune_at: usize,
    threads: usize,
    idle: usize,
}

impl BlockingPool {
    /// A pool without threads yet.
    pub(crate) const fn new(name: &'static str, limit: usize) -> Self {
        let state = PoolState { queue: VecDeque::new(), prune_at: PRUNE_FROM, threads: 0, idle: 0 };
        Self { name, limit, state: Mutex::new(state), queued: Condvar::new() }
    }

    /// Runs `work` on a thread of the pool, after a wait in the queue if all are busy. Dropping the future
    /// abandons the work: it does not start, or its result is dropped.
    ///
    /// # Errors
    /// The work panicked, or no thread could be started.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (result, awaited) = oneshot::channel();
        self.push(Box::new(Job { work, result })).map_err(WorkError::NoThread)?;
        awaited.await.map_err(|_| WorkError::Panicked)
    }

    /// Like [`BlockingPool::run`], for at most `limit`.
    ///
    /// # Errors
    /// As for `run`, and a timeout. The thread may hang further.
    pub(crate) async fn run_within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        tokio::time::timeout(limit, self.run(work)).await.unwrap_or(Err(WorkError::TimedOut(limit)))
    }

    fn push(&'static self, work: Box<dyn Work>) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.queue.len() >= state.prune_at {
            // Abandoned work must not accumulate while all threads hang.
            state.queue.retain(|work| !work.is_abandoned());
            state.prune_at = (state.queue.len() * 2).max(PRUNE_FROM);
        }
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            self.queued.notify_one();
            return Ok(());
        }
        if state.threads >= self.limit {
            return Ok(());
        }
        let started = thread::Builder::new().name(self.name.to_owned()).spawn(|| self.serve());
        match started {
            Ok(_) => state.threads += 1,
            // An existing thread runs it later.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                state.queue.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // The result's channel has reported a panic.
                let _ = call_caught(|| work.perform());
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            let over = self.queued.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if over && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, mpsc};

    fn pool(limit: usize) -> &'static BlockingPool {
        Box::leak(Box::new(BlockingPool::new("test", limit)))
    }

    #[tokio::test]
    async fn hanging_work_does_not_stop_the_other_threads() {
        let pool = pool(2);
        let (end, ended) = mpsc::channel::<()>();
        let hung = pool.run_within(Duration::from_millis(20), move || ended.recv()).await;
        assert!(matches!(hung, Err(WorkError::TimedOut(_))));
        for number in 0..20 {
            assert_eq!(pool.run(move || number).await.unwrap(), number);
        }
        drop(end);
    }

    #[tokio::test]
    async fn abandoned_work_that_has_not_started_is_dropped() {
        let pool = pool(1);
        let (end, ended) = mpsc::channel::<()>();
        let hung = tokio::spawn(pool.run(move || ended.recv()));
        while pool.state.lock().threads == 0 || !pool.state.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let late = pool.run_within(Duration::from_millis(20), move || count.fetch_add(1, SeqCst)).await;
        assert!(late.is_err());
        end.send(()).unwrap();
        assert!(hung.await.unwrap().unwrap().is_ok());
        pool.run(|| ()).await.unwrap();
        assert_eq!(begun.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn abandoned_work_does_not_accumulate() {
        let pool = pool(1);
        let (end, ended) = mpsc::channel::<()>();
        let hung = pool.run_within(Duration::from_millis(20), move || ended.recv()).await;
        assert!(hung.is_err());
        for _ in 0..PRUNE_FROM * 4 {
            let mut abandoned = Box::pin(pool.run(|| ()));
            // Queued by the first poll, abandoned by the drop.
            assert!(tokio::time::timeout(Duration::ZERO, &mut abandoned).await.is_err());
        }
        assert!(pool.state.lock().queue.len() <= PRUNE_FROM);
        drop(end);
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_keeps_the_thread() {
        let pool = pool(1);
        for _ in 0..3 {
            assert!(matches!(pool.run(|| panic!("on purpose")).await, Err(WorkError::Panicked)));
        }
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
        assert_eq!(pool.state.lock().threads, 1);
    }

    #[tokio::test]
    async fn many_callers_share_few_threads() {
        let pool = pool(3);
        let all: Vec<_> = (0..200).map(|number| tokio::spawn(pool.run(move || number))).collect();
        for (number, one) in all.into_iter().enumerate() {
            assert_eq!(one.await.unwrap().unwrap(), number);
        }
        assert!(pool.state.lock().threads <= 3);
    }
}
