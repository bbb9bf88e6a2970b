//! Background work of an upstream: probes (`probing`), name resolution and discovery, as one future that its owner spawns
//! and drops.
//! A slow probe delays no lookup.

use super::Cluster;
use crate::upstream::discovery::Lookups;
use futures_util::StreamExt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// The minimum pause between two lookups of a name.
const SHORTEST: Duration = Duration::from_millis(100);

/// The minimum pause between two changes of the members: a change takes time in proportion to their number.
const PAUSE: Duration = Duration::from_millis(50);

impl Cluster {
    /// Returns whether the cluster has background work.
    pub fn is_busy(&self) -> bool {
        self.schedule.is_some() || self.source.may_change()
    }

    /// Probes and resolves until dropped, which cancels everything in progress. Returns at once if there is
    /// nothing to do. Runs on a tokio runtime, at most once at a time.
    pub async fn run(self: Arc<Self>) {
        if !self.is_busy() {
            return;
        }
        // Endpoints with an address are probed while names are still being looked up, and a slow name delays
        // no other one.
        let resolved = Notify::new();
        let beginning = async {
            resolved.notified().await;
            if let Some(feed) = self.source.feed() {
                feed.first_answer().await;
            }
            // Those of the first answers are probed.
            self.update_members().await;
            self.await_probes().await;
            self.endpoint_set.complete_startup();
            self.first_round.send_replace(true);
        };
        tokio::join!(
            self.keep_resolving(&resolved),
            self.keep_discovering(),
            self.keep_updating(),
            self.keep_probing(),
            beginning
        );
    }

    /// Resolves after the first round of lookups and probes of [`Cluster::run`]; at once if it is complete or
    /// there is nothing to do. The caller bounds the wait.
    pub fn first_round(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut done = self.first_round.subscribe();
        async move {
            // An error means that the cluster was dropped, which ends the wait too.
            let _ = done.wait_for(|done| *done).await;
        }
    }

    /// Waits until every current member has been probed.
    async fn await_probes(&self) {
        if self.schedule.is_none() {
            return;
        }
        let members = self.members.load(Relaxed);
        // Fails only after the cluster is dropped, which owns the sender.
        let _ =
            self.probed.subscribe().wait_for(|probed| probed.is_some_and(|probed| probed >= members)).await;
    }

    /// Looks up every name, each again when its records expire. A slow name delays no other. `resolved` is
    /// notified when every name was looked up once.
    async fn keep_resolving(&self, resolved: &Notify) {
        let by = Lookups { kind: self.spec.resolver, max_age: self.spec.resolve.0 };
        let mut looking = self.source.look_up(by);
        let mut first = looking.len();
        if first == 0 {
            resolved.notify_one();
        }
        while let Some(looked_up) = looking.next().await {
            let is_first = looked_up.is_first;
            let learned = self.source.take(&self.name, looked_up, by);
            if learned.is_new {
                self.source.announce_change();
            }
            if learned.has_failed {
                self.resolve_failures.fetch_add(1, Relaxed);
                self.metrics.resolve_failed();
            }
            if is_first {
                first -= 1;
                if first == 0 {
                    resolved.notify_one();
                }
            }
            // Up to a tenth more at random: gateways that started together do not query together.
            let wait = learned.valid_for.max(SHORTEST).mul_f64(1.0 + fastrand::f64() / 10.0);
            looking.push(self.source.look_up_later(learned, by, wait));
        }
    }

    async fn keep_discovering(&self) {
        if let Some(feed) = self.source.feed() {
            feed.run().await;
        }
    }

    /// Applies changes of the members: the first one at once, and those that follow shortly after it together.
    async fn keep_updating(&self) {
        while self.source.may_change() {
            self.source.changed().await;
            self.update_members().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Applies the known addresses of the names. Call it before [`Cluster::run`].
    pub(super) fn take_known_members(&self) {
        // Discovery responds from memory, so that one poll completes it.
        let mut once = Context::from_waker(Waker::noop());
        if pin!(self.engine.update()).poll(&mut once).is_pending() {
            log::error!(upstream = &*self.name; "membership not updated");
        }
        self.members.fetch_add(1, Relaxed);
    }

    /// Applies the current members, if they have changed, and schedules probes of new endpoints.
    async fn update_members(&self) {
        let before = self.endpoint_set.current();
        if let Err(error) = self.engine.update().await {
            log::error!(upstream = &*self.name, reason:% = error; "membership not updated");
        }
        if Arc::ptr_eq(&before, &self.endpoint_set.current()) {
            return;
        }
        log::info!(upstream = &*self.name, endpoints = self.endpoint_set.current().as_slice().len(); "upstream membership changed");
        self.members.fetch_add(1, Relaxed);
        self.new_endpoints.notify_one();
    }
}
