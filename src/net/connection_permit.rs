//! Permits of a listener's connections, counted against its `max_connections`. A reload may change the limit: the
//! connections that are open then count too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use tokio::sync::Notify;

/// The open connections of a listener.
#[derive(Debug)]
pub struct ConnectionCount {
    open: AtomicUsize,
    /// `usize::MAX` without a limit.
    limit: AtomicUsize,
    /// Wakes the workers that wait for a permit.
    changed: Notify,
}

/// The connections of a worker: those that have a clone of it.
pub type WorkerConnections = Arc<()>;

/// The permit of a connection, released on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    count: Arc<ConnectionCount>,
    /// Counts the connection for its worker.
    _worker: WorkerConnections,
}

impl ConnectionCount {
    /// No connections; `None` without a limit.
    pub fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
            changed: Notify::new(),
        })
    }

    /// Changes the limit. Open connections stay, whatever the new one is.
    pub fn set_limit(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(usize::MAX), Release);
        self.changed.notify_waiters();
    }

    /// A permit for a connection of this worker, unless the limit is reached.
    pub fn try_acquire(self: &Arc<Self>, worker: &WorkerConnections) -> Option<ConnectionPermit> {
        let limit = self.limit.load(Acquire);
        let admit = |open: usize| (open < limit).then_some(open + 1);
        // One step, without counting first: a refused attempt must not wake those who wait.
        self.open.fetch_update(AcqRel, Acquire, admit).ok()?;
        Some(ConnectionPermit { count: Arc::clone(self), _worker: Arc::clone(worker) })
    }

    /// A permit for a connection that another process has accepted, whatever the limit.
    pub fn readmit(self: &Arc<Self>, worker: &WorkerConnections) -> ConnectionPermit {
        self.open.fetch_add(1, AcqRel);
        ConnectionPermit { count: Arc::clone(self), _worker: Arc::clone(worker) }
    }

    /// Waits for a permit.
    pub async fn acquire(self: &Arc<Self>, worker: &WorkerConnections) -> ConnectionPermit {
        loop {
            // Enabled before the attempt: a permit that is released in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(permit) = self.try_acquire(worker) {
                return permit;
            }
            changed.await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.count.open.fetch_sub(1, AcqRel);
        if self.count.limit.load(Acquire) != usize::MAX {
            self.count.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_lower_limit_counts_the_open_connections() {
        let count = ConnectionCount::new(None);
        let mut permits: Vec<_> = (0..5).map(|_| count.try_acquire(&Arc::default()).unwrap()).collect();
        count.set_limit(Some(3));
        for _ in 0..2 {
            assert!(count.try_acquire(&Arc::default()).is_none());
            permits.pop();
        }
        assert!(count.try_acquire(&Arc::default()).is_none());
        permits.pop();
        assert!(count.try_acquire(&Arc::default()).is_some());
    }

    #[tokio::test]
    async fn a_waiter_gets_a_released_permit_and_one_of_a_higher_limit() {
        let count = ConnectionCount::new(Some(1));
        let first = count.try_acquire(&Arc::default()).unwrap();
        let waiter = tokio::spawn({
            let count = Arc::clone(&count);
            async move { count.acquire(&Arc::default()).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let second = waiter.await.unwrap();
        let waiter = tokio::spawn({
            let count = Arc::clone(&count);
            async move { count.acquire(&Arc::default()).await }
        });
        tokio::task::yield_now().await;
        count.set_limit(Some(2));
        drop((waiter.await.unwrap(), second));
        assert!(count.try_acquire(&Arc::default()).is_some());
    }
}
