//! What the gateway has learned of endpoints from its own traffic, for the process that takes over in an upgrade.

use super::Cluster;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::monotonic_millis;
use crate::upstream::passive_health::PassiveState;
use serde::{Deserialize, Serialize};

/// An endpoint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct EndpointState {
    address: String,
    passive: PassiveState,
    /// The time since it joined, in milliseconds; `None` if it was present at the start, or is not healthy yet.
    joined_ago: Option<u64>,
}

impl EndpointState {
    fn of(endpoint: &Endpoint, now: u64) -> Self {
        Self {
            address: endpoint.address().to_string(),
            passive: endpoint.passive().state(now),
            joined_ago: endpoint.join_time().age(now),
        }
    }

    fn is_plain(&self) -> bool {
        let Self { passive, joined_ago, .. } = self;
        joined_ago.is_none() && *passive == PassiveState::default()
    }
}

impl Cluster {
    /// The endpoints of which something is known.
    pub fn endpoint_states(&self) -> Vec<EndpointState> {
        let now = monotonic_millis::now();
        let members = self.endpoint_set.current();
        let states = members.as_slice().iter().map(|member| EndpointState::of(member.endpoint(), now));
        states.filter(|state| !state.is_plain()).collect()
    }

    /// Continues with what another process knew. An endpoint that this one lacks is skipped.
    pub fn restore_endpoints(&self, states: &[EndpointState]) {
        let now = monotonic_millis::now();
        for member in self.endpoint_set.current().as_slice() {
            let endpoint = member.endpoint();
            let address = endpoint.address().to_string();
            let Some(state) = states.iter().find(|state| state.address == address) else { continue };
            endpoint.passive().restore(&state.passive, now);
            if let Some(ago) = state.joined_ago {
                // Never 0, which means "always": no process is that old.
                endpoint.join_time().begin(now.saturating_sub(ago).max(1));
            }
        }
    }
}
