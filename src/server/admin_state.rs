//! Process status for the admin API.

use super::admin::{
    AdminState, ClientLimits, EndpointFacts, ProcessFacts, ReloadOutcome, StoreRotation, UpgradedProcess,
};
use super::handover::Succession;
use super::process_sockets::ProcessSockets;
use super::upgrade::{UpgradeOrder, Upgraded, is_program_replaced};
use crate::control::{EndpointDrain, ReloadCause, ReloadHistory, Reloaded};
use crate::limit::Store;
use crate::proxy::{self, ExplainRequest, Shared};
use crate::tunnel::Registry;
use crate::upstream::Order;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// The process as the admin API shows it.
pub(super) struct ProcessStatus {
    shared: Arc<Shared>,
    sockets: Arc<ProcessSockets>,
    upgrades: UnboundedSender<UpgradeOrder>,
    started: Instant,
    stage: AtomicU8,
    /// The runtime of reloads.
    control: Handle,
}

impl ProcessStatus {
    /// Creates the status, not ready yet. Call it on the runtime of reloads.
    pub(super) fn new(
        shared: Arc<Shared>,
        sockets: Arc<ProcessSockets>,
        upgrades: UnboundedSender<UpgradeOrder>,
    ) -> Self {
        Self {
            shared,
            sockets,
            upgrades,
            started: Instant::now(),
            stage: AtomicU8::new(STARTING),
            control: Handle::current(),
        }
    }

    /// Sets the status to ready.
    pub(super) fn serving(&self) {
        self.stage.store(SERVING, Ordering::Relaxed);
    }

    /// Sets the status to not ready.
    pub(super) fn draining(&self) {
        self.stage.store(DRAINING, Ordering::Relaxed);
    }
}

#[async_trait]
impl AdminState for ProcessStatus {
    fn ready(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == SERVING
    }

    fn status(&self) -> Value {
        let live = &self.shared.live;
        let snapshot = live.pin();
        let last = live.last_reload();
        let listeners: Vec<_> = self
            .sockets
            .addresses()
            .iter()
            .map(|(name, address)| match snapshot.secure().find(|(secure, _)| *secure == name.as_str()) {
                Some((_, tls)) => {
                    json!({ "name": name, "address": address, "certificates": tls.certificates() })
                }
                None => json!({ "name": name, "address": address }),
            })
            .collect();
        let removed =
            snapshot.removed().iter().map(|upstream| (upstream.name().to_string(), upstream.status()));
        let upstreams: serde_json::Map<_, _> = snapshot
            .clusters()
            .map(|cluster| (cluster.name().to_string(), cluster.status()))
            .chain(removed.filter(|(_, status)| !status.endpoints.is_empty()))
            .map(|(name, status)| (name, json!(status)))
            .collect();
        let certificates: Vec<_> = snapshot.certificates.all().iter().map(|job| job.status()).collect();
        let sources: Vec<_> = snapshot.sources.all().map(|source| source.feed().status()).collect();
        let stores: Vec<_> = snapshot.stores.all().map(|store| store.status()).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": live.generation(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "program_replaced": is_program_replaced(),
            "draining": self.stage.load(Ordering::Relaxed) == DRAINING,
            "last_reload": { "ok": last.ok, "at": last.at, "report": last.report },
            "listeners": listeners,
            "acme": certificates,
            "sources": sources,
            "stores": stores,
            "upstreams": upstreams,
            "websockets": self.shared.tunnels.websockets(),
            "upgraded": self.shared.tunnels.raw_relays(),
            "requests": self.shared.requests(),
        })
    }

    async fn reload(&self) -> ReloadOutcome {
        let live = Arc::clone(&self.shared.live);
        let file = live.file().display().to_string();
        // A task of its own on the runtime of reloads: a client that disconnects must not abort a reload
        // half-way.
        match self.control.spawn(async move { live.reload(ReloadCause::Api).await }).await {
            Ok(Ok(Reloaded { generation, report })) => ReloadOutcome::Taken { generation, file, report },
            Ok(Err(refusal)) => ReloadOutcome::Refused { report: refusal.report },
            Err(error) => ReloadOutcome::Refused { report: error.to_string() },
        }
    }

    async fn upgrade(&self, succession: Succession) -> Result<UpgradedProcess, String> {
        let (sender, outcome) = oneshot::channel();
        let ended = || "the process is shutting down".to_owned();
        let order = UpgradeOrder { succession, outcome: sender };
        self.upgrades.send(order).map_err(|_| ended())?;
        let outcome = outcome.await.map_err(|_| ended())?;
        outcome.map(|Upgraded { pid, binary, websockets }| UpgradedProcess {
            pid,
            version: binary,
            websockets_moved: websockets.moved,
            websockets_left: websockets.left,
        })
    }

    fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()> {
        self.shared.live.order(upstream, endpoint, order)
    }

    async fn rotate_secrets(&self, store: Option<&str>) -> Vec<StoreRotation> {
        let snapshot = self.shared.live.pin();
        let is_meant = |known: &&Arc<Store>| match store {
            Some(name) => **known.name() == *name,
            None => known.secrets_in_use().is_some(),
        };
        let stores: Vec<_> = snapshot.stores.all().filter(is_meant).cloned().collect();
        drop(snapshot);
        let mut rotations = Vec::with_capacity(stores.len());
        for store in stores {
            let outcome = store.rotate_secrets().await;
            rotations.push(StoreRotation { store: Arc::clone(store.name()), outcome });
        }
        rotations
    }

    fn allows_taps(&self) -> bool {
        self.shared.live.look().admin.as_ref().is_some_and(|admin| admin.tap)
    }

    fn has_route(&self, name: &str) -> bool {
        let has_websocket =
            || self.shared.tunnels.tally(|seen| (&**seen.route == name).then_some(())).contains_key(&());
        self.shared.live.look().route(name).is_some() || has_websocket()
    }

    fn tunnels(&self) -> &Arc<Registry> {
        &self.shared.tunnels
    }

    fn endpoints(&self) -> Vec<EndpointFacts> {
        let live = &self.shared.live;
        let snapshot = live.pin();
        let drains: HashMap<u64, EndpointDrain> =
            live.drains().by_endpoint().into_iter().map(|drain| (drain.endpoint, drain)).collect();
        let present = snapshot.clusters().map(|cluster| (Arc::clone(cluster.name()), cluster.status()));
        let removed =
            snapshot.removed().iter().map(|upstream| (Arc::clone(upstream.name()), upstream.status()));
        let mut facts = Vec::new();
        for (upstream, status) in present.chain(removed) {
            facts.extend(status.endpoints.into_iter().map(|status| EndpointFacts {
                upstream: Arc::clone(&upstream),
                drain: drains.get(&status.token).copied(),
                status,
            }));
        }
        facts
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            uptime: self.started.elapsed(),
            generation: self.shared.live.generation(),
            draining: self.stage.load(Ordering::Relaxed) == DRAINING,
            requests: self.shared.requests(),
        }
    }

    fn reloads(&self) -> &ReloadHistory {
        self.shared.live.reloads()
    }

    fn configuration(&self) -> String {
        self.shared.live.effective().to_string()
    }

    fn explain(&self, request: &ExplainRequest<'_>) -> Result<Value, String> {
        let snapshot = self.shared.live.pin();
        let explained = proxy::explain(&snapshot, request)?;
        let text = explained.to_string();
        let explanation = explained.explanation;
        let winner = explanation.winner.as_ref();
        let route = winner.and_then(|winner| snapshot.route(&winner.name));
        let destinations: Vec<_> = route
            .map(|route| route.destination.clusters().map(|cluster| cluster.name().to_string()).collect())
            .unwrap_or_default();
        let others: Vec<_> = explanation
            .others
            .iter()
            .map(|other| json!({ "route": other.name, "reason": other.reason }))
            .collect();
        Ok(json!({
            "route": winner.map(|winner| &winner.name),
            "upstream": destinations.first(),
            "upstreams": destinations,
            "because": winner.map(|winner| &winner.because),
            "others": others,
            "elsewhere": explanation.elsewhere,
            "text": text,
        }))
    }

    fn limits(&self) -> ClientLimits {
        let terms = &self.shared.live.look().globals;
        ClientLimits {
            header_timeout: terms.request_limits.time,
            send_timeout: terms.send_timeout,
            client_prefix: terms.client_prefix,
        }
    }
}
