//! The version of a route for its WebSockets: it changes with the destination or the WebSocket policy.

use super::Destination;
use crate::config;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The properties of a route that concern its WebSockets, and their version number.
pub(super) struct RouteVersion {
    number: u64,
    /// The clusters by name, with the sums of their weights.
    destination: Vec<(Arc<str>, u32)>,
    policy: config::WebSocket,
}

impl RouteVersion {
    /// The prior version if nothing changed, otherwise a new one.
    pub(super) fn of(
        destination: &Destination,
        written: &config::WebSocket,
        prior: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let destination = match destination {
            Destination::None => Vec::new(),
            Destination::One(cluster) => vec![(Arc::clone(cluster.name()), 1)],
            Destination::Weighted { upto, .. } => {
                upto.iter().map(|(sum, cluster)| (Arc::clone(cluster.name()), *sum)).collect()
            }
        };
        let policy = config::WebSocket {
            // Drain settings apply to open WebSockets at once, and the handshake rate does not concern them:
            // neither needs a reconnect.
            handshake_rate: None,
            handshake_timeout: None,
            drain_window: config::WebSocket::default().drain_window,
            on_unhealthy: config::ExistingTunnels::default(),
            on_reload: config::ExistingTunnels::default(),
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
