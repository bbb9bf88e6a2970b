//! What a process has counted and learned while it ran, for the process that takes over in an upgrade: rates, ejections,
//! keys of session tickets, secrets of stores, and the histories of the live page. A part that cannot be read begins anew.

use super::admin::live::History;
use super::handover::SecretState;
use crate::control::{Live, ReloadEntry};
use crate::limit::HandshakeLimiter;
use crate::runtime::shared_secrets::SharedSecretState;
use crate::snapshot::Snapshot;
use crate::tls::TicketKeyState;
use crate::upstream::EndpointState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A part of the state. Each is one message, and lists are cut so that it fits.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum StatePart {
    /// Endpoints of an upstream.
    Endpoints { upstream: String, endpoints: Vec<EndpointState> },
    /// The time that the handshakes of a route or listener owe to their rate.
    HandshakeRate { owner: RateOwner, owed: Duration },
    /// What a plugin has counted. Entries of one owner, kind and name are told apart by their order.
    Plugin { owner: String, kind: String, name: String, index: usize, counts: Value },
    /// The keys of a listener without `ticket_keys`.
    TicketKeys { listener: String, keys: TicketKeyState },
    /// The secrets of a store, which this process may not reach.
    Secrets { store: String, secrets: SharedSecretState },
    /// A reload, the oldest first.
    Reload(Box<ReloadEntry>),
    /// The history of the live page.
    History(Value),
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RateOwner {
    Route(String),
    Listener(String),
}

/// Endpoints of a part.
const ENDPOINTS: usize = 500;

/// The state of this process.
pub(super) fn collect(live: &Live, history: Option<&History>) -> Vec<SecretState> {
    let snapshot = live.pin();
    let mut parts = Vec::new();
    for cluster in snapshot.clusters() {
        for endpoints in cluster.endpoint_states().chunks(ENDPOINTS) {
            parts.push(StatePart::Endpoints {
                upstream: cluster.name().to_string(),
                endpoints: endpoints.to_vec(),
            });
        }
    }
    let now = Instant::now();
    for (owner, limiter) in limiters(&snapshot) {
        parts.push(StatePart::HandshakeRate { owner, owed: limiter.owed(now) });
    }
    for instance in snapshot.plugin_instances() {
        for counts in instance.entry.counts() {
            parts.push(StatePart::Plugin {
                owner: instance.owner.to_owned(),
                kind: instance.kind.to_owned(),
                name: instance.name.to_owned(),
                index: instance.index,
                counts,
            });
        }
    }
    for (listener, acceptor) in snapshot.secure() {
        if let Some(keys) = acceptor.ticket_key_state() {
            parts.push(StatePart::TicketKeys { listener: listener.to_owned(), keys });
        }
    }
    for store in snapshot.stores.all() {
        if let Some(secrets) = store.secrets_in_use() {
            parts.push(StatePart::Secrets { store: store.name().to_string(), secrets: secrets.state() });
        }
    }
    let reloads = live.reloads().entries();
    parts.extend(reloads.iter().rev().map(|entry| StatePart::Reload(Box::new(entry.for_message()))));
    parts.extend(history.map(|history| StatePart::History(history.state())));
    // Numbers, text and lists are always JSON.
    parts.iter().filter_map(|part| serde_json::to_value(part).ok()).map(SecretState).collect()
}

/// Continues with the state of another process.
pub(super) fn restore(parts: Vec<SecretState>, live: &Live, history: Option<&History>) {
    let snapshot = live.pin();
    let (now, mut reloads) = (Instant::now(), Vec::new());
    for mut part in parts {
        let Ok(part) = serde_json::from_value(std::mem::take(&mut part.0)) else { continue };
        match part {
            StatePart::Endpoints { upstream, endpoints } => {
                if let Some(cluster) = snapshot.cluster(&upstream) {
                    cluster.restore_endpoints(&endpoints);
                }
            }
            StatePart::HandshakeRate { owner, owed } => {
                if let Some(limiter) = limiter(&snapshot, &owner) {
                    limiter.charge(owed, now);
                }
            }
            StatePart::Plugin { owner, kind, name, index, counts } => {
                if let Some(entry) = snapshot.plugin_instance(&owner, &kind, &name, index) {
                    entry.restore_counts(counts);
                }
            }
            StatePart::TicketKeys { listener, keys } => {
                if let Some((_, acceptor)) = snapshot.secure().find(|(name, _)| *name == listener) {
                    acceptor.restore_ticket_keys(&keys);
                }
            }
            StatePart::Secrets { store, secrets } => {
                if let Some(known) =
                    snapshot.stores.find(&store).ok().and_then(|store| store.secrets_in_use())
                {
                    known.restore(&secrets);
                }
            }
            StatePart::Reload(entry) => reloads.push(*entry),
            StatePart::History(state) => {
                if let Some(history) = history {
                    history.restore(state);
                }
            }
        }
    }
    live.reloads().precede(reloads);
}

fn limiters(snapshot: &Snapshot) -> impl Iterator<Item = (RateOwner, &Arc<HandshakeLimiter>)> {
    let of_listeners = snapshot.listeners.iter().filter_map(|listener| {
        Some((RateOwner::Listener(listener.name.to_string()), listener.handshake_limiter.as_ref()?))
    });
    let of_routes = snapshot.table.targets().filter_map(|route| {
        Some((RateOwner::Route(route.name.to_string()), route.policy.handshake_limiter()?))
    });
    of_listeners.chain(of_routes)
}

fn limiter<'a>(snapshot: &'a Snapshot, owner: &RateOwner) -> Option<&'a Arc<HandshakeLimiter>> {
    match owner {
        RateOwner::Route(name) => snapshot.route(name)?.policy.handshake_limiter(),
        RateOwner::Listener(name) => snapshot.listener(name)?.handshake_limiter.as_ref(),
    }
}
