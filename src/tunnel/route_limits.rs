//! Limits of a route: allowed origins, concurrent WebSockets, and WebSockets per client.
//!
//! Permits count: dropping one undoes its count, however the tunnel ended. The counts belong to the route and
//! survive reloads of its settings.

use crate::config::{self, PerClient, PerKey};
use crate::limit::{SharedConnections, SharedPermit, Stores};
use crate::upstream::KeySource;
use moongate_config::{Placed, Problem, Problems};
use moongate_sdk::{ClientAddress, HashedKey, fleet_hash, keyed_hash};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A client, identified by the route's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey<'a> {
    /// By its address prefix; also the fallback for a request without the key.
    Client(ClientAddress<'a>),
    /// By the value of its key.
    Key(&'a [u8]),
}

impl ClientKey<'_> {
    /// The key of the client in limits that a fleet shares.
    pub fn fleet_key(&self) -> u128 {
        fleet_hash(self.hashed())
    }

    fn hashed(&self) -> HashedKey<'_> {
        match *self {
            Self::Client(client) => HashedKey::Client(client),
            Self::Key(value) => HashedKey::Value(value),
        }
    }
}

/// Why a WebSocket is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The page's origin is not among those allowed.
    Origin,
    /// The route has as many as it may.
    Full,
    /// The client has as many as it may.
    ClientFull,
}

/// The limits of a route and their current counts.
#[derive(Debug)]
pub(super) struct RouteLimits {
    origins: Option<Vec<Origin>>,
    connections: u32,
    per_client: Option<ClientLimit>,
    present: Arc<OpenCounts>,
}

/// The limit per client.
#[derive(Debug)]
struct ClientLimit {
    limit: u32,
    key: KeySource,
    /// The counts of the fleet, if a store has them.
    shared: Option<Arc<SharedConnections>>,
}

/// The current counts.
#[derive(Debug, Default)]
struct OpenCounts {
    all: AtomicU32,
    // Keyed by a keyed hash of the client: an entry is 12 bytes, and no client can choose a collision.
    clients: Mutex<HashMap<u64, u32>>,
}

/// Counts a WebSocket until it is dropped.
#[derive(Debug)]
pub struct Permit {
    present: Arc<OpenCounts>,
    client: Option<u64>,
    /// The count of the fleet, which is open or has to be.
    shared: Option<SharedCount>,
}

#[derive(Debug)]
enum SharedCount {
    Asked { connections: Arc<SharedConnections>, client: u128, limit: u32 },
    Open(SharedPermit),
}

/// The key under which a permit counts its client, for another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum PermitKey {
    /// Of this process, and of those that it hands over to.
    Local(u64),
    /// Of the fleet, as the two halves of its 128 bits.
    Fleet(u64, u64),
}

impl Permit {
    /// The key under which it counts the client, for another process.
    pub fn key(&self) -> Option<PermitKey> {
        match &self.shared {
            Some(SharedCount::Open(permit)) => {
                let client = permit.client();
                Some(PermitKey::Fleet((client >> 64) as u64, client as u64))
            }
            _ => self.client.map(PermitKey::Local),
        }
    }

    /// Counts the client's WebSocket in the store, if its limit has one: waits for the store's deadline at most.
    ///
    /// # Errors
    /// [`Denial::ClientFull`].
    pub async fn share(mut self) -> Result<Self, Denial> {
        if let Some(SharedCount::Asked { connections, client, limit }) = &self.shared {
            let permit = connections.open(*client, *limit).await.ok_or(Denial::ClientFull)?;
            self.shared = Some(SharedCount::Open(permit));
        }
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.present.all.fetch_sub(1, Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.present.clients.lock();
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

impl RouteLimits {
    pub(super) fn new(
        written: &config::WebSocket,
        prior: Option<&Self>,
        stores: &Stores,
        owner: &str,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let origins = written.origins.as_ref().map(|list| {
            list.iter().filter_map(|origin| problems.keep(Origin::parse(origin))).collect::<Vec<_>>()
        });
        let before =
            prior.and_then(|prior| prior.per_client.as_ref()).and_then(|before| before.shared.as_ref());
        let per_client = match &written.max_connections_per_client {
            None => None,
            Some(PerClient::Count(limit)) => {
                Some(ClientLimit { limit: *limit, key: KeySource::ClientIp, shared: None })
            }
            Some(PerClient::Keyed(keyed)) => {
                let shared =
                    problems.keep(shared_counts(keyed, before, stores, owner).map_err(Problems::from));
                let key = keyed.key.as_ref().map_or(Ok(KeySource::ClientIp), KeySource::read_from);
                let key = problems.keep(key);
                key.zip(shared).map(|(key, shared)| ClientLimit { limit: keyed.limit, key, shared })
            }
        };
        // `0` turns the limit off.
        let per_client = per_client.filter(|per_client| per_client.limit > 0);
        if problems.refuse() {
            return Err(problems);
        }
        let connections = written.max_connections.map_or(u32::MAX, std::num::NonZeroU32::get);
        let present = prior.map(|prior| prior.present.clone()).unwrap_or_default();
        Ok(Self { origins, connections, per_client, present })
    }

    pub(super) fn client_key(&self) -> Option<&KeySource> {
        self.per_client.as_ref().map(|per_client| &per_client.key)
    }

    /// The permit of a WebSocket that another process has admitted, whatever the limits. `key` is that of the other
    /// process's permit, which was given under a limit per client.
    pub(super) fn readmit(&self, key: Option<PermitKey>, client: ClientKey<'_>) -> Permit {
        self.present.all.fetch_add(1, Relaxed);
        let mut permit = Permit { present: self.present.clone(), client: None, shared: None };
        let Some(per_client) = &self.per_client else { return permit };
        if let Some(connections) = &per_client.shared {
            let client = match key {
                Some(PermitKey::Fleet(high, low)) => u128::from(high) << 64 | u128::from(low),
                _ => client.fleet_key(),
            };
            permit.shared = Some(SharedCount::Open(connections.readmit(client)));
            return permit;
        }
        let client = match key {
            Some(PermitKey::Local(key)) => key,
            _ => keyed_hash(client.hashed()),
        };
        *self.present.clients.lock().entry(client).or_default() += 1;
        permit.client = Some(client);
        permit
    }

    pub(super) fn acquire(&self, origin: Option<&[u8]>, client: ClientKey<'_>) -> Result<Permit, Denial> {
        if let (Some(allowed), Some(origin)) = (&self.origins, origin)
            && !allowed.iter().any(|one| one.matches(origin))
        {
            return Err(Denial::Origin);
        }
        // Counted before the comparison, so that two concurrent handshakes cannot both take the last permit.
        let before = self.present.all.fetch_add(1, Relaxed);
        let mut permit = Permit { present: self.present.clone(), client: None, shared: None };
        if before >= self.connections {
            return Err(Denial::Full);
        }
        if let Some(ClientLimit { limit, shared, .. }) = &self.per_client {
            if let Some(connections) = shared {
                let (connections, client) = (Arc::clone(connections), client.fleet_key());
                permit.shared = Some(SharedCount::Asked { connections, client, limit: *limit });
                return Ok(permit);
            }
            let client = keyed_hash(client.hashed());
            let mut clients = self.present.clients.lock();
            let count = clients.entry(client).or_default();
            // A limit is at least 1, so a rejection never leaves an entry of 0.
            if *count >= *limit {
                return Err(Denial::ClientFull);
            }
            *count += 1;
            permit.client = Some(client);
        }
        Ok(permit)
    }
}

/// The counts of a limit in its store, if it has one: those before a reload if the store is the same.
fn shared_counts(
    keyed: &PerKey,
    before: Option<&Arc<SharedConnections>>,
    stores: &Stores,
    owner: &str,
) -> Result<Option<Arc<SharedConnections>>, Problem> {
    let Some(name) = &keyed.store else { return Ok(None) };
    let store = stores.find(&name.value).map_err(|problem| problem.at(&name.place))?;
    let scope = format!("{owner}/max_connections_per_client");
    let kept = before.filter(|before| before.is_of(store, &scope)).cloned();
    Ok(Some(kept.unwrap_or_else(|| SharedConnections::new(Arc::clone(store), scope))))
}

/// An allowed origin, in lower case.
#[derive(Debug)]
enum Origin {
    Exact(String),
    /// `https://` and `.example.com[:port]`.
    Below(String, String),
}

impl Origin {
    fn parse(written: &Placed<String>) -> Result<Self, Problems> {
        let text = written.value.to_ascii_lowercase();
        let Some((scheme, host)) = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) else {
            if text == "null" {
                return Ok(Self::Exact(text));
            }
            return Err(Self::problem(written));
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(Self::problem(written));
        }
        match host.strip_prefix('*') {
            Some(below) if below.starts_with('.') && !below.contains('*') && below.len() > 1 => {
                Ok(Self::Below(format!("{scheme}://"), below.to_owned()))
            }
            None if !host.contains('*') => Ok(Self::Exact(text)),
            _ => Err(Self::problem(written)),
        }
    }

    fn problem(written: &Placed<String>) -> Problems {
        Problem::new(format!("`{}` is not an origin", written.value))
            .help("write scheme and host as in https://example.com, https://*.example.com, or null")
            .at(&written.place)
            .into()
    }

    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(text) => origin.eq_ignore_ascii_case(text.as_bytes()),
            Self::Below(scheme, below) => {
                let Some(name) = origin.len().checked_sub(scheme.len() + below.len()) else { return false };
                let (start, rest) = origin.split_at(scheme.len());
                let (name, end) = rest.split_at(name);
                // A non-empty prefix that is a name: no port, user or path.
                start.eq_ignore_ascii_case(scheme.as_bytes())
                    && end.eq_ignore_ascii_case(below.as_bytes())
                    && !name.is_empty()
                    && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
            }
        }
    }
}

#[cfg(test)]
mod tests;
