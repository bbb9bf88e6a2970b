//! The long-lived task of a store: it connects, sends heartbeats, and does the work that no request waits for.

use super::connection::StoreError;
use super::store::{CountSource, LIFE, Store, Work, gateway_id};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

/// The interval of heartbeats, which are also the probes of a store that is unavailable.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The time limit for connecting, TLS and authentication included.
const LONGEST_CONNECT: Duration = Duration::from_millis(900);
/// Counts of WebSockets that changed are sent at this interval.
const FLUSH: Duration = Duration::from_millis(10);
/// All counts are sent again within this time: their keys expire after [`super::connection::KEY_LIFE`].
const REFRESH: Duration = Duration::from_secs(600);

impl Store {
    /// Keeps the store connected until the future is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        self.begin();
        let Some(receiver) = self.take_work() else { return };
        let mut work = WorkReceiver { store: &self, receiver: Some(receiver) };
        let Some(receiver) = work.receiver.as_mut() else { return };
        loop {
            let begun = Instant::now();
            match self.connect().await {
                Ok(()) => {
                    self.refresh_counts();
                    self.serve(receiver).await;
                }
                Err(error) => {
                    self.not_connected(&error);
                    // Without a connection it is told so at once.
                    while let Ok(work) = receiver.try_recv() {
                        work().await;
                    }
                    sleep(HEARTBEAT.saturating_sub(begun.elapsed())).await;
                }
            }
        }
    }

    /// Connects, and uses the connection if a heartbeat succeeds within the deadline: a store that connects but is too
    /// slow would let every request wait in vain.
    async fn connect(&self) -> Result<(), StoreError> {
        let until = Instant::now() + LONGEST_CONNECT;
        let slow = |_| StoreError("the connection timed out".to_owned());
        let connection = timeout_at(until, self.client().connect()).await.map_err(slow)??;
        let heartbeat = connection.heartbeat(self.gateways_key(), Arc::clone(gateway_id()), LIFE);
        let deadline = self.settings().deadline;
        let late = |_| StoreError(format!("no response within {} ms", deadline.as_millis()));
        // The first response of a new connection may include the loading of a script.
        let living = timeout(deadline, heartbeat).await.map_err(late)??;
        self.set_living(living);
        timeout(deadline, self.read_secrets_over(&*connection)).await.map_err(late)??;
        self.use_connection(connection);
        Ok(())
    }

    /// Serves until the connection is lost.
    async fn serve(&self, receiver: &mut UnboundedReceiver<Work>) {
        let mut heartbeats = interval(HEARTBEAT);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeats.reset();
        let mut flush_at = None;
        let mut refresh = Instant::now() + REFRESH;
        let mut pending: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + '_>>> =
            FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.lost.notified() => {
                    if !self.is_up() {
                        // Each has a deadline, and asks no more.
                        while pending.next().await.is_some() {}
                        return;
                    }
                }
                _ = heartbeats.tick() => {
                    pending.push(Box::pin(self.beat()));
                    if Instant::now() >= refresh {
                        refresh = Instant::now() + REFRESH;
                        self.refresh_counts();
                    }
                }
                () = self.changed.notified(), if flush_at.is_none() => flush_at = Some(Instant::now() + FLUSH),
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                    flush_at = None;
                    for count in self.changed_counts() {
                        pending.push(Box::pin(count));
                    }
                }
                Some(work) = receiver.recv() => {
                    pending.push(work());
                }
                Some(()) = pending.next(), if !pending.is_empty() => {}
            }
        }
    }

    /// Marks all counts of WebSockets as changed.
    fn refresh_counts(&self) {
        self.count_sources().iter().for_each(|source| source.refresh());
        self.changed.notify_one();
    }

    /// The writes of counts that have changed. A write that fails is repeated.
    fn changed_counts(&self) -> Vec<impl Future<Output = ()> + Send + use<'_>> {
        let mut writes = Vec::new();
        for source in self.count_sources() {
            let (counts, has_more) = source.changed();
            if has_more {
                self.changed.notify_one();
            }
            for (client, key, count) in counts {
                let source = Arc::clone(&source);
                writes.push(async move {
                    if self.call(|connection| connection.count(key, count)).await.is_none() {
                        source.repeat(client);
                        self.changed.notify_one();
                    }
                });
            }
        }
        writes
    }

    fn count_sources(&self) -> Vec<Arc<dyn CountSource>> {
        self.counts.lock().iter().filter_map(Weak::upgrade).collect()
    }

    async fn beat(&self) {
        let (key, gateway) = (self.gateways_key(), Arc::clone(gateway_id()));
        if let Some(living) = self.call(|connection| connection.heartbeat(key, gateway, LIFE)).await {
            self.set_living(living);
        }
        self.read_secrets().await;
    }

    /// Removes this gateway from those that live, at the end of the process.
    pub async fn leave(&self) {
        if self.is_up() {
            for count in self.changed_counts() {
                count.await;
            }
            let (key, gateway) = (self.gateways_key(), Arc::clone(gateway_id()));
            let _ = self.call(|connection| connection.leave(key, gateway)).await;
        }
    }

    fn gateways_key(&self) -> String {
        format!("{}gateways", self.settings().key_prefix)
    }
}

/// Returns the queue when the task ends, so that a restarted task has it.
struct WorkReceiver<'a> {
    store: &'a Store,
    receiver: Option<UnboundedReceiver<Work>>,
}

impl Drop for WorkReceiver<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            self.store.return_work(receiver);
        }
    }
}
