//! Threads for calls that may block for ever: file systems and the system's resolver.
//!
//! Each kind of work has a pool of its own, so that a hung call delays calls of its own kind alone. The threads are
//! never joined: the process ends while they hang. A caller that stops waiting leaves the thread behind; work that no
//! thread has begun by then is dropped.

use moongate_sdk::call_caught;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// How long an idle thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Reading, checking and opening what a configuration names. Reloads take turns, so more than one thread is in use only
/// while another one hangs.
pub static RELOAD: BlockingPool = BlockingPool::new("reload", 4);

/// Reading certificate files again. One look at a time.
pub static ROTATION: BlockingPool = BlockingPool::new("rotation", 1);

/// Reopening log files.
pub static LOGS: BlockingPool = BlockingPool::new("logs", 1);

/// The files of certificates that the gateway orders. One order is at work at a time, and every certificate has files.
pub static ACME: BlockingPool = BlockingPool::new("acme", 4);

/// What the end of the process waits for: the access log's last lines, the files of Unix sockets.
pub static LAST_LINES: BlockingPool = BlockingPool::new("last-lines", 2);

/// Everything else that reads files: the system's root certificates, `/etc/resolv.conf`, `/etc/hosts`.
pub static SYSTEM_FILES: BlockingPool = BlockingPool::new("files", 4);

/// `getaddrinfo`, for `resolver: system`.
pub static GETADDRINFO: BlockingPool = BlockingPool::new("getaddrinfo", 8);

/// Queued work, from this many on, is searched for work that nobody waits for any more.
const PRUNE_FROM: usize = 64;

/// Work for one of the threads.
trait Work: Send {
    /// Does it and hands over the result.
    fn perform(self: Box<Self>);
    /// Whether its caller has stopped waiting.
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
            // A panic drops the sender, which tells the caller.
            let _ = result.send(work());
        }
    }

    fn is_abandoned(&self) -> bool {
        self.result.is_closed()
    }
}

/// Why work has no result.
#[derive(Debug, Error)]
pub enum Halted {
    /// The work panicked.
    #[error("it panicked")]
    Panicked,
    /// No thread can be had.
    #[error("no thread can be had: {0}")]
    NoThread(io::Error),
    /// It took longer than the caller waits.
    #[error("it did not return within {0:?}")]
    TimedOut(Duration),
}

impl From<Halted> for io::Error {
    fn from(halted: Halted) -> Self {
        let kind = match halted {
            Halted::TimedOut(_) => io::ErrorKind::TimedOut,
            Halted::Panicked | Halted::NoThread(_) => io::ErrorKind::Other,
        };
        Self::new(kind, halted.to_string())
    }
}

/// A bounded number of detached threads, with a queue before them.
pub struct BlockingPool {
    name: &'static str,
    limit: usize,
    state: Mutex<PoolState>,
    queued: Condvar,
}

struct PoolState {
    queue: VecDeque<Box<dyn Work>>,
    /// Abandoned work is searched for when the queue has this length.
    prune_at: usize,
    threads: usize,
    idle: usize,
}

impl BlockingPool {
    /// A pool without a thread yet.
    pub const fn new(name: &'static str, limit: usize) -> Self {
        let state = PoolState { queue: VecDeque::new(), prune_at: PRUNE_FROM, threads: 0, idle: 0 };
        Self { name, limit, state: Mutex::new(state), queued: Condvar::new() }
    }

    /// Runs `work` on one of the threads. When all of them are at work it waits in the queue. Dropping the future
    /// abandons the work: it does not begin any more, and its result is dropped if it has begun.
    ///
    /// # Errors
    /// When it panicked, or no thread can be had.
    pub async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Halted> {
        let (result, awaited) = oneshot::channel();
        self.push(Box::new(Job { work, result })).map_err(Halted::NoThread)?;
        awaited.await.map_err(|_| Halted::Panicked)
    }

    /// As [`BlockingPool::run`], for at most `limit`.
    ///
    /// # Errors
    /// As there, and when the time is over. The thread may hang on.
    pub async fn run_within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Halted> {
        tokio::time::timeout(limit, self.run(work)).await.unwrap_or(Err(Halted::TimedOut(limit)))
    }

    fn push(&'static self, work: Box<dyn Work>) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.queue.len() >= state.prune_at {
            // Behind threads that hang, work that was abandoned must not pile up.
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
            // One of the threads that are there takes it later.
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
                // The result's channel has told the caller of a panic.
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
    async fn work_that_hangs_is_left_and_the_other_threads_work_on() {
        let pool = pool(2);
        let (end, ended) = mpsc::channel::<()>();
        let hung = pool.run_within(Duration::from_millis(20), move || ended.recv()).await;
        assert!(matches!(hung, Err(Halted::TimedOut(_))));
        for number in 0..20 {
            assert_eq!(pool.run(move || number).await.unwrap(), number);
        }
        drop(end);
    }

    #[tokio::test]
    async fn abandoned_work_that_no_thread_has_begun_is_never_done() {
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
    async fn abandoned_work_does_not_pile_up() {
        let pool = pool(1);
        let (end, ended) = mpsc::channel::<()>();
        let hung = pool.run_within(Duration::from_millis(20), move || ended.recv()).await;
        assert!(hung.is_err());
        for _ in 0..PRUNE_FROM * 4 {
            let mut abandoned = Box::pin(pool.run(|| ()));
            // Queued with the first poll, abandoned with the drop.
            assert!(tokio::time::timeout(Duration::ZERO, &mut abandoned).await.is_err());
        }
        assert!(pool.state.lock().queue.len() <= PRUNE_FROM);
        drop(end);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_takes_no_thread() {
        let pool = pool(1);
        for _ in 0..3 {
            assert!(matches!(pool.run(|| panic!("on purpose")).await, Err(Halted::Panicked)));
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
