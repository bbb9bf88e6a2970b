//! What an upstream does in the background: probing and resolving, as one future that its owner
//! spawns and drops. Neither waits for the other: a slow probe delays no lookup.

use super::Cluster;
use crate::resolver;
use crate::upstream::discovery::{Lookups, Round};
use futures_util::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The shortest pause between two rounds of lookups.
const SHORTEST: Duration = Duration::from_millis(100);

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
        // Nobody waits for another: those with an address are probed while names are looked up, and those of one name
        // while another one takes its time.
        let resolved = Notify::new();
        let resolving = async {
            let first = self.resolve().await;
            resolved.notify_one();
            self.keep_resolving(first).await;
        };
        let beginning = async {
            resolved.notified().await;
            self.await_probes().await;
            self.roster.settle();
            self.first_round.send_replace(true);
        };
        tokio::join!(resolving, self.keep_probing(), beginning);
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
        loop {
            let next = Instant::now() + rhythm.pause();
            let members = self.members.load(Relaxed);
            self.probe().await;
            self.probed.send_replace(Some(members));
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.newcomers.notified() => {}
            }
        }
    }

    /// Waits until everybody who is a member now has been probed.
    async fn await_probes(&self) {
        if self.rhythm.is_none() {
            return;
        }
        let members = self.members.load(Relaxed);
        // The sender is the cluster's own.
        let _ =
            self.probed.subscribe().wait_for(|probed| probed.is_some_and(|probed| probed >= members)).await;
    }

    async fn keep_resolving(&self, first: Option<Round>) {
        let Some(mut round) = first else { return };
        let mut changes = resolver::global().changes();
        loop {
            // Up to a tenth more by chance: gateways that were started together ask apart.
            let wait = round.valid_for.max(SHORTEST).mul_f64(1.0 + fastrand::f64() / 10.0);
            tokio::select! {
                () = sleep(wait) => {}
                // The resolver lives as long as the process.
                _ = changes.changed() => {}
            }
            match self.resolve().await {
                Some(next) => round = next,
                None => return,
            }
        }
    }

    /// One round of probes, all at the same time.
    async fn probe(&self) {
        self.engine.backends().run_health_check(true).await;
    }

    /// One round of lookups; none without a name.
    async fn resolve(&self) -> Option<Round> {
        if !self.source.has_names() {
            return None;
        }
        let lookups = Lookups { kind: self.spec.resolver, max_age: self.spec.resolve.0 };
        let mut round = Round { valid_for: lookups.max_age, failures: 0 };
        let mut looking = self.source.look_up(lookups);
        // A name that takes long delays no other.
        while let Some(looked_up) = looking.next().await {
            if self.source.take(&self.name, looked_up, &mut round) {
                self.update_members().await;
            }
        }
        self.resolve_failures.fetch_add(round.failures, Relaxed);
        for _ in 0..round.failures {
            self.metrics.resolve_failed();
        }
        Some(round)
    }

    /// Takes over what the names stand for now, and has newcomers probed soon.
    async fn update_members(&self) {
        if let Err(error) = self.engine.update().await {
            log::error!(upstream = &*self.name, reason:% = error; "membership not updated");
        }
        log::info!(upstream = &*self.name, endpoints = self.roster.current().seats().len(); "membership changed");
        self.members.fetch_add(1, Relaxed);
        self.newcomers.notify_one();
    }
}
