//! WebSockets per client over all gateways of a store.
//!
//! Each gateway writes its own number per client, with its identity. A number counts while the gateway's heartbeats
//! arrive, so that the places of a gateway that was killed are free within 15 s. Numbers are absolute: a lost or repeated
//! write is corrected by the next one. A handshake asks exactly; the end of a WebSocket is written within 10 ms.

use super::connection::ClientCount;
use super::store::{CountSource, LIFE, OnFailure, Store, gateway_id};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers that are written at once.
const BATCH: usize = 500;

/// The order of all counts of this process.
static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// The counts of one limit.
#[derive(Debug)]
pub(crate) struct SharedConnections {
    store: Arc<Store>,
    scope: String,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    counts: HashMap<u128, Count>,
    changed: Vec<u128>,
}

#[derive(Debug, Default)]
struct Count {
    open: u32,
    /// Whether it is in `changed`.
    is_changed: bool,
}

/// One WebSocket of a client, until it is dropped.
#[derive(Debug)]
pub(crate) struct SharedPermit {
    connections: Arc<SharedConnections>,
    client: u128,
}

impl SharedPermit {
    /// The key of the client, for another process.
    pub(crate) fn client(&self) -> u128 {
        self.client
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        let mut clients = self.connections.clients.lock();
        if let Some(count) = clients.counts.get_mut(&self.client) {
            count.open = count.open.saturating_sub(1);
        }
        clients.change(self.client);
        drop(clients);
        self.connections.store.changed.notify_one();
    }
}

impl Clients {
    fn change(&mut self, client: u128) {
        let count = self.counts.entry(client).or_default();
        if !count.is_changed {
            count.is_changed = true;
            self.changed.push(client);
        }
    }
}

impl SharedConnections {
    /// The counts of a limit with this scope in `store`.
    pub(crate) fn new(store: Arc<Store>, scope: String) -> Arc<Self> {
        let new = Arc::new(Self { store, scope, clients: Mutex::default() });
        let source: Arc<dyn CountSource> = Arc::clone(&new) as _;
        let mut known = new.store.counts.lock();
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(&source));
        drop(known);
        new
    }

    /// Whether it has this store and scope.
    pub(crate) fn is_of(&self, store: &Arc<Store>, scope: &str) -> bool {
        Arc::ptr_eq(&self.store, store) && self.scope == scope
    }

    /// Counts a WebSocket whatever the limit: another process has admitted it.
    pub(crate) fn readmit(self: &Arc<Self>, client: u128) -> SharedPermit {
        let mut clients = self.clients.lock();
        clients.counts.entry(client).or_default().open += 1;
        clients.change(client);
        drop(clients);
        self.store.changed.notify_one();
        SharedPermit { connections: Arc::clone(self), client }
    }

    /// Counts a WebSocket; `None` if the client has `limit` of them. Dropping the future undoes the count.
    pub(crate) async fn open(self: &Arc<Self>, client: u128, limit: u32) -> Option<SharedPermit> {
        let is_unlimited = !self.store.is_up() && self.store.settings().on_failure == OnFailure::Open;
        let (permit, count) = {
            let mut clients = self.clients.lock();
            let count = clients.counts.entry(client).or_default();
            if count.open >= limit && !is_unlimited {
                return None;
            }
            count.open += 1;
            let open = count.open;
            // Created under the lock: the sequence has the order of the counts.
            (SharedPermit { connections: Arc::clone(self), client }, self.count(open, limit))
        };
        let open = count.count;
        let key = self.store.key("open", &self.scope, Some(client));
        let is_open = match self.store.call(|connection| connection.count(key, count)).await {
            Some(is_open) => is_open,
            None => match self.store.settings().on_failure {
                OnFailure::Local => open <= limit.div_ceil(self.store.gateways()),
                OnFailure::Open => true,
                OnFailure::Closed => false,
            },
        };
        is_open.then_some(permit)
    }

    fn count(&self, count: u32, limit: u32) -> ClientCount {
        ClientCount {
            gateway: Arc::clone(gateway_id()),
            count,
            sequence: SEQUENCE.fetch_add(1, Relaxed),
            limit,
            living: self.store.living(),
            life: LIFE,
        }
    }

    #[cfg(test)]
    pub(crate) fn open_now(&self) -> u32 {
        self.clients.lock().counts.values().map(|count| count.open).sum()
    }
}

impl CountSource for SharedConnections {
    fn refresh(&self) {
        let mut clients = self.clients.lock();
        let all: Vec<_> = clients.counts.keys().copied().collect();
        all.into_iter().for_each(|client| clients.change(client));
    }

    fn changed(&self) -> (Vec<(u128, String, ClientCount)>, bool) {
        let mut clients = self.clients.lock();
        let from = clients.changed.len().saturating_sub(BATCH);
        let batch = clients.changed.split_off(from);
        let mut counts = Vec::with_capacity(batch.len());
        for client in batch {
            let Some(count) = clients.counts.get_mut(&client) else { continue };
            count.is_changed = false;
            let open = count.open;
            if open == 0 {
                clients.counts.remove(&client);
            }
            let key = self.store.key("open", &self.scope, Some(client));
            counts.push((client, key, self.count(open, u32::MAX)));
        }
        if clients.counts.is_empty() {
            clients.counts.shrink_to_fit();
        }
        (counts, !clients.changed.is_empty())
    }

    fn repeat(&self, client: u128) {
        self.clients.lock().change(client);
    }
}
