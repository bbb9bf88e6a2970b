//! When a route is another one to the WebSockets it has: its destination or their policy was changed.

use super::Destination;
use crate::config;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What makes a route what it is to its WebSockets, with a number for it.
pub(super) struct RouteVersion {
    number: u64,
    /// The clusters by name, with the sums of their shares.
    destination: Vec<(Arc<str>, u32)>,
    policy: config::WebSocket,
}

impl RouteVersion {
    /// The prior one while nothing changed, otherwise a new one.
    pub(super) fn of(
        destination: &Destination,
        written: &config::WebSocket,
        prior: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let destination = match destination {
            Destination::None => Vec::new(),
            Destination::One(cluster) => vec![(Arc::clone(cluster.name()), 1)],
            Destination::Shares { upto, .. } => {
                upto.iter().map(|(sum, cluster)| (Arc::clone(cluster.name()), *sum)).collect()
            }
        };
        let policy = config::WebSocket {
            // How WebSockets are drained holds at once for those that live, and how fast new ones come in is
            // nothing to them: nobody must reconnect for it.
            handshake_rate: None,
            handshake_timeout: None,
            drain_window: config::WebSocket::default().drain_window,
            on_unhealthy: config::Stay::default(),
            on_reload: config::Stay::default(),
            ..written.clone()
        };
        let same = |prior: &&Arc<Self>| prior.destination == destination && prior.policy == policy;
        match prior.filter(same) {
            Some(prior) => Arc::clone(prior),
            None => Arc::new(Self { number: NEXT.fetch_add(1, Relaxed), destination, policy }),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}
