//! An upstream as `/api/v1/status` shows it.

use super::{Cluster, Leaving};
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
    /// Why it takes no new connection and its WebSockets are asked to come again: `marked` in the
    /// configuration, or the word of an `operator`.
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
        ClusterStatus { endpoints: members.seats().iter().map(endpoint).collect() }
    }
}
