//! The version of a route for its tunnels: it changes with the destination, the WebSocket policy or the upgrades, and is the
//! same in a process that takes over with the same ones.

use super::Destination;
use crate::config;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The properties of a route that concern its tunnels, and their version number.
pub(super) struct RouteVersion {
    number: u64,
    /// The clusters by name, with the sums of their weights.
    destination: Vec<(Arc<str>, u32)>,
    policy: config::WebSocket,
    /// The other protocols, as written.
    upgrades: Vec<String>,
}

impl RouteVersion {
    /// The prior version if nothing changed.
    pub(super) fn of(
        destination: &Destination,
        written: &config::Route,
        prior: Option<&Arc<Self>>,
    ) -> Arc<Self> {
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
            ..written.websocket.clone()
        };
        let upgrades: Vec<_> = written.upgrades.iter().map(|protocol| protocol.value.clone()).collect();
        let same = |prior: &&Arc<Self>| {
            prior.destination == destination && prior.policy == policy && prior.upgrades == upgrades
        };
        match prior.filter(same) {
            Some(prior) => Arc::clone(prior),
            None => {
                let number = digest(&destination, &policy, &upgrades);
                Arc::new(Self { number, destination, policy, upgrades })
            }
        }
    }

    /// Never 0.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// The same number in every binary that knows the keys of the policy: keys with their default are left out, so that a new
/// key of a later version changes nothing. The hash of another Rust release may differ, and then WebSockets of routes with
/// `on_reload: drain` are drained, as after a change.
fn digest(destination: &[(Arc<str>, u32)], policy: &config::WebSocket, upgrades: &[String]) -> u64 {
    let keys = |policy: &config::WebSocket| serde_json::to_value(policy).unwrap_or_default();
    let (written, default) = (keys(policy), keys(&config::WebSocket::default()));
    let mut hasher = DefaultHasher::new();
    destination.hash(&mut hasher);
    for (key, value) in written.as_object().into_iter().flatten() {
        if default.get(key) != Some(value) {
            key.hash(&mut hasher);
            value.to_string().hash(&mut hasher);
        }
    }
    if !upgrades.is_empty() {
        ("upgrades", upgrades).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_destination_and_policy() {
        type Change = fn(&mut config::WebSocket);
        let numbered = |weight: u32, change: Change| {
            let mut policy = config::WebSocket::default();
            change(&mut policy);
            digest(&[("chat".into(), weight)], &policy, &[])
        };
        let first = numbered(1, |_| {});
        assert_eq!(first, numbered(1, |_| {}), "of two processes");
        let changes: [(u32, Change); 3] = [
            (2, |_| {}),
            (1, |policy| policy.max_connections = std::num::NonZeroU32::new(7)),
            (1, |policy| policy.on_endpoint_loss = config::OnEndpointLoss::Reconnect),
        ];
        for (weight, change) in changes {
            assert_ne!(first, numbered(weight, change));
        }
        let policy = config::WebSocket::default();
        assert_ne!(first, digest(&[("chat".into(), 1)], &policy, &["tcp".to_owned()]));
    }
}
