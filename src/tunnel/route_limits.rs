//! Limits of a route: allowed origins, concurrent WebSockets, and WebSockets per client.
//!
//! Permits count: dropping one undoes its count, however the tunnel ended. The counts belong to the route and
//! survive reloads of its settings.

use crate::config::{self, PerClient};
use crate::upstream::KeySource;
use moongate_config::{Placed, Problem, Problems};
use moongate_sdk::{ClientAddress, HashedKey, keyed_hash};
use parking_lot::Mutex;
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
    fn hash(self) -> u64 {
        keyed_hash(match self {
            Self::Client(client) => HashedKey::Client(client),
            Self::Key(value) => HashedKey::Value(value),
        })
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
    per_client: Option<(u32, KeySource)>,
    present: Arc<OpenCounts>,
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
}

impl Permit {
    /// The key under which it counts the client, for another process.
    pub fn key(&self) -> Option<u64> {
        self.client
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
    pub(super) fn new(written: &config::WebSocket, prior: Option<&Self>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let origins = written.origins.as_ref().map(|list| {
            list.iter().filter_map(|origin| problems.keep(Origin::parse(origin))).collect::<Vec<_>>()
        });
        let per_client = match &written.max_connections_per_client {
            None => None,
            Some(PerClient::Count(limit)) => Some((*limit, KeySource::ClientIp)),
            Some(PerClient::Keyed(keyed)) => {
                problems.keep(KeySource::read_from(&keyed.key)).map(|key| (keyed.limit, key))
            }
        };
        // `0` turns the limit off.
        let per_client = per_client.filter(|(limit, _)| *limit > 0);
        if problems.refuse() {
            return Err(problems);
        }
        let connections = written.max_connections.map_or(u32::MAX, std::num::NonZeroU32::get);
        let present = prior.map(|prior| prior.present.clone()).unwrap_or_default();
        Ok(Self { origins, connections, per_client, present })
    }

    pub(super) fn client_key(&self) -> Option<&KeySource> {
        self.per_client.as_ref().map(|(_, key)| key)
    }

    /// The permit of a WebSocket that another process has admitted, whatever the limits. `key` is that of the other
    /// process's permit, which was given under a limit per client.
    pub(super) fn readmit(&self, key: Option<u64>, client: ClientKey<'_>) -> Permit {
        self.present.all.fetch_add(1, Relaxed);
        let client = self.per_client.as_ref().map(|_| key.unwrap_or_else(|| client.hash()));
        if let Some(client) = client {
            *self.present.clients.lock().entry(client).or_default() += 1;
        }
        Permit { present: self.present.clone(), client }
    }

    pub(super) fn acquire(&self, origin: Option<&[u8]>, client: ClientKey<'_>) -> Result<Permit, Denial> {
        if let (Some(allowed), Some(origin)) = (&self.origins, origin)
            && !allowed.iter().any(|one| one.matches(origin))
        {
            return Err(Denial::Origin);
        }
        // Counted before the comparison, so that two concurrent handshakes cannot both take the last permit.
        let before = self.present.all.fetch_add(1, Relaxed);
        let mut permit = Permit { present: self.present.clone(), client: None };
        if before >= self.connections {
            return Err(Denial::Full);
        }
        if let Some((limit, _)) = &self.per_client {
            let client = client.hash();
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
