//! Limit on the open connections of the admin address, and the choice of the connection that is closed for a
//! new one.
//!
//! A new connection is never refused: at the limit, the oldest connection without a valid token is closed.
//! The probe connections are used only while no ordinary connection may be closed. This file only keeps the
//! set of connections; each connection closes itself once it is evicted.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Connections that may request everything.
pub(super) const CONNECTIONS: usize = 256;

/// Additional connections, for `/healthz` and `/readyz` only.
pub(super) const PROBE_CONNECTIONS: usize = 32;

/// The connections of one client above which its own are closed first. Otherwise a single client that
/// connects fast would close the connections of all others.
const FAIR_SHARE: usize = 32;

/// What a connection may request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything.
    All,
    /// `/healthz` and `/readyz`.
    Probes,
}

/// The authentication of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientTrust {
    /// No token is configured.
    NoTokenConfigured,
    /// A token is configured, and the connection has not sent it.
    Unauthenticated,
    /// The connection has sent a valid token.
    Authenticated,
}

/// The current activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It is idle, or its request is incomplete.
    Receiving,
    /// Its request is processed.
    Processing,
    /// Its response is sent.
    Sending,
}

/// The open connections.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    table: Mutex<Table>,
}

/// IDs grow with time, so the first entry is the oldest.
#[derive(Debug)]
struct Table {
    /// Of new connections.
    trust: ClientTrust,
    next: u64,
    ordinary: BTreeMap<u64, Entry>,
    probes: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    trust: ClientTrust,
    activity: Activity,
    evicted: Arc<Notify>,
}

/// The entry of one connection, removed on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    id: u64,
    scope: Scope,
    evicted: Arc<Notify>,
}

/// A new connection's entry, and the client whose connection was closed for it.
#[derive(Debug)]
pub(super) struct AdmittedConnection {
    pub(super) place: ConnectionSlot,
    pub(super) evicted: Option<IpAddr>,
}

impl ConnectionLimit {
    /// Creates an empty set. Every connection begins with `trust`.
    pub(super) fn new(trust: ClientTrust) -> Arc<Self> {
        let table = Table { trust, next: 0, ordinary: BTreeMap::new(), probes: BTreeMap::new() };
        Arc::new(Self { table: Mutex::new(table) })
    }

    /// New connections begin with `trust` from now on.
    pub(super) fn set_trust(&self, trust: ClientTrust) {
        self.table.lock().trust = trust;
    }

    /// Adds a new connection; at the limit it evicts another one. `client` is the identity for counting.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> AdmittedConnection {
        let mut table = self.table.lock();
        let (scope, victim) = table.choose();
        let (id, trust) = (table.next, table.trust);
        table.next += 1;
        let entries = table.entries(scope);
        let evicted = victim.and_then(|victim| entries.remove(&victim)).map(|entry| {
            entry.evicted.notify_one();
            entry.client
        });
        let notify = Arc::new(Notify::new());
        let activity = Activity::Receiving;
        entries.insert(id, Entry { client, trust, activity, evicted: Arc::clone(&notify) });
        let place = ConnectionSlot { limit: Arc::clone(self), id, scope, evicted: notify };
        AdmittedConnection { place, evicted }
    }
}

impl Table {
    fn entries(&mut self, scope: Scope) -> &mut BTreeMap<u64, Entry> {
        match scope {
            Scope::All => &mut self.ordinary,
            Scope::Probes => &mut self.probes,
        }
    }

    /// The scope of the next connection, and the connection to evict for it.
    fn choose(&self) -> (Scope, Option<u64>) {
        if self.ordinary.len() < CONNECTIONS {
            return (Scope::All, None);
        }
        if let Some(victim) = victim(&self.ordinary) {
            return (Scope::All, Some(victim));
        }
        let full = self.probes.len() >= PROBE_CONNECTIONS;
        (Scope::Probes, full.then(|| victim(&self.probes)).flatten())
    }
}

/// The connection to evict: of those with the lowest worth, the oldest of a client above its fair share,
/// otherwise the oldest.
fn victim(entries: &BTreeMap<u64, Entry>) -> Option<u64> {
    let worth = entries.values().filter_map(Entry::worth).min()?;
    let candidates = || entries.iter().filter(|(_, entry)| entry.worth() == Some(worth));
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    candidates().for_each(|(_, entry)| *counts.entry(entry.client).or_default() += 1);
    let most = counts.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > FAIR_SHARE);
    let mut chosen = candidates().filter(|(_, entry)| most.is_none_or(|(client, _)| entry.client == *client));
    chosen.next().map(|(id, _)| *id)
}

impl Entry {
    /// The priority of keeping the connection; `None` if it must not be closed.
    fn worth(&self) -> Option<u8> {
        match (self.trust, self.activity) {
            (ClientTrust::Unauthenticated, _) | (ClientTrust::NoTokenConfigured, Activity::Receiving) => {
                Some(0)
            }
            (ClientTrust::NoTokenConfigured, Activity::Sending)
            | (ClientTrust::Authenticated, Activity::Receiving) => Some(1),
            (ClientTrust::NoTokenConfigured, Activity::Processing)
            | (ClientTrust::Authenticated, Activity::Processing | Activity::Sending) => None,
        }
    }
}

impl ConnectionSlot {
    /// The scope of the connection.
    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    /// The connection has sent a valid token. A probe connection remains evictable.
    pub(super) fn authenticate(&self) {
        self.change(|entry| {
            if entry.trust == ClientTrust::Unauthenticated {
                entry.trust = ClientTrust::Authenticated;
            }
        });
    }

    /// Sets the current activity.
    pub(super) fn set(&self, activity: Activity) {
        self.change(|entry| entry.activity = activity);
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        // A probe entry never changes, so that it always remains evictable.
        if self.scope == Scope::All
            && let Some(entry) = self.limit.table.lock().ordinary.get_mut(&self.id)
        {
            change(entry);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // An evicted connection has no entry.
        self.limit.table.lock().entries(self.scope).remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
