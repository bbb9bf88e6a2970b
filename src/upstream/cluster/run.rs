//! What an upstream does in the background: probing and resolving, as one future that its owner
//! spawns and drops. Neither waits for the other: a slow probe delays no lookup.

use super::Cluster;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::{Instant, sleep, sleep_until};

impl Cluster {
    /// Whether it has anything to do in the background.
    pub fn is_busy(&self) -> bool {
        self.rhythm.is_some() || self.source.has_names()
    }

    /// Probes and resolves until it is dropped, which ends all that is under way. Returns at once
    /// when there is nothing to do. Runs on a tokio runtime, once at a time.
    pub async fn run(self: Arc<Self>) {
        if !self.is_busy() {
            return;
        }
        // Those with an address are probed while the names are looked up.
        let (changed, ()) = tokio::join!(self.resolve(), self.probe());
        if changed {
            self.probe().await;
        }
        self.roster.settle();
        self.first_round.send_replace(true);
        tokio::join!(self.keep_resolving(), self.keep_probing());
    }

    /// Resolves when the first round of lookups and probes that [`Cluster::run`] makes is done; at
    /// once when it was, or when there is nothing to do. The caller bounds the wait.
    pub fn first_round(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut done = self.first_round.subscribe();
        async move {
            // An error says that the cluster is gone: nobody needs its first round any more.
            let _ = done.wait_for(|done| *done).await;
        }
    }

    async fn keep_probing(&self) {
        let Some(rhythm) = self.rhythm else { return };
        let mut next = Instant::now() + rhythm.pause();
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.newcomers.notified() => {}
            }
            next = Instant::now() + rhythm.pause();
            self.probe().await;
        }
    }

    async fn keep_resolving(&self) {
        if !self.source.has_names() {
            return;
        }
        let every = self.spec.resolve.0;
        loop {
            // A tenth more or less by chance: gateways that were started together ask apart.
            sleep(every.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
            if self.resolve().await {
                self.newcomers.notify_one();
            }
        }
    }

    /// One round of probes, all at the same time.
    async fn probe(&self) {
        self.engine.backends().run_health_check(true).await;
    }

    /// One round of lookups; whether the membership changed.
    async fn resolve(&self) -> bool {
        if !self.source.has_names() {
            return false;
        }
        let round = self.source.resolve(&self.name).await;
        self.resolve_failures.fetch_add(round.failures, Relaxed);
        for _ in 0..round.failures {
            self.metrics.resolve_failed();
        }
        if !round.changed {
            return false;
        }
        if let Err(error) = self.engine.update().await {
            log::error!(upstream = &*self.name, reason:% = error; "membership not updated");
        }
        log::info!(upstream = &*self.name, endpoints = self.roster.current().seats().len(); "membership changed");
        true
    }
}
