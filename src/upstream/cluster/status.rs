//! The status of an upstream in `/api/v1/status`.

use super::{Cluster, Leaving, RemovedUpstream};
use crate::upstream::endpoint_set::RemovedEndpoint;
use crate::upstream::health_score::Health;
use serde::Serialize;

/// The status of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The endpoints, ordered by address, followed by removed ones that are still in use.
    pub endpoints: Vec<EndpointStatus>,
}

/// The status of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// The address.
    pub address: String,
    /// The weight.
    pub weight: u16,
    /// The health.
    pub health: Health,
    /// Whether its traffic failed and it is ejected.
    pub ejected: bool,
    /// Why it accepts no new connections: `marked` in the configuration, ordered by an `operator`, or
    /// `removed` from its upstream.
    pub draining: Option<Leaving>,
    /// Requests and WebSockets at the endpoint.
    pub active: usize,
}

impl Cluster {
    /// The current status.
    pub fn status(&self) -> ClusterStatus {
        let members = self.endpoint_set.current();
        let endpoint = |member: &crate::upstream::balance::Member| {
            let endpoint = member.endpoint();
            EndpointStatus {
                address: endpoint.address().to_string(),
                weight: member.weight(),
                health: endpoint.health(),
                ejected: endpoint.is_ejected(),
                draining: Leaving::of(member),
                active: endpoint.active(),
            }
        };
        let removed = self.endpoint_set.removed_in_use().into_iter().map(EndpointStatus::from);
        ClusterStatus { endpoints: members.as_slice().iter().map(endpoint).chain(removed).collect() }
    }
}

impl From<RemovedEndpoint> for EndpointStatus {
    fn from(departed: RemovedEndpoint) -> Self {
        Self {
            address: departed.address,
            weight: 0,
            health: Health::Unknown,
            ejected: false,
            draining: Some(Leaving::Removed),
            active: departed.active,
        }
    }
}

impl RemovedUpstream {
    /// The current status.
    pub fn status(&self) -> ClusterStatus {
        ClusterStatus {
            endpoints: RemovedEndpoint::of(self.loads()).into_iter().map(EndpointStatus::from).collect(),
        }
    }
}
