//! An upstream as `/api/v1/status` shows it.

use super::{Cluster, Leaving, RemovedUpstream};
use crate::upstream::endpoint_set::RemovedEndpoint;
use crate::upstream::health_score::Health;
use serde::Serialize;

/// An upstream at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Its endpoints, in the order of their addresses, and after them those that were removed while something is
    /// still on them.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: String,
    /// Its share against the others.
    pub weight: u16,
    /// Its health.
    pub health: Health,
    /// Whether it is out because its traffic failed.
    pub ejected: bool,
    /// Why it takes no new connection: `marked` in the configuration, the word of an `operator`, or `removed` from its
    /// upstream.
    pub draining: Option<Leaving>,
    /// The requests and WebSockets that are on it.
    pub active: usize,
}

impl Cluster {
    /// What there is to see of it now.
    pub fn status(&self) -> ClusterStatus {
        let members = self.roster.current();
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
        let removed = self.roster.left_behind().into_iter().map(EndpointStatus::from);
        ClusterStatus { endpoints: members.seats().iter().map(endpoint).chain(removed).collect() }
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
    /// What there is to see of them now.
    pub fn status(&self) -> ClusterStatus {
        ClusterStatus {
            endpoints: RemovedEndpoint::of(self.loads()).into_iter().map(EndpointStatus::from).collect(),
        }
    }
}
