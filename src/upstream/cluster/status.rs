//! An upstream as `/api/v1/status` shows it.

use super::Cluster;
use crate::upstream::endpoint::Health;
use serde::Serialize;

/// An upstream at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Its endpoints, in the order of their addresses.
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
                active: endpoint.active(),
            }
        };
        ClusterStatus { endpoints: members.seats().iter().map(endpoint).collect() }
    }
}
