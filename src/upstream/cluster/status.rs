//! The status of an upstream in `/api/v1/status`.

use super::{Cluster, Leaving, RemovedUpstream};
use crate::upstream::announced::MemberState;
use crate::upstream::discovery::{Feed, FeedStatus};
use crate::upstream::endpoint::ProbeResult;
use crate::upstream::endpoint_set::{Removal, RemovedEndpoint};
use crate::upstream::health_score::Health;
use crate::upstream::monotonic_millis;
use crate::upstream::slow_start::{SlowStart, WHOLE};
use serde::Serialize;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The status of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// The endpoints, ordered by address, followed by removed ones that are still in use.
    pub endpoints: Vec<EndpointStatus>,
    /// The discovery of the endpoints; `None` for a list.
    pub discovery: Option<FeedStatus>,
}

/// The status of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// The address.
    pub address: String,
    /// The weight.
    pub weight: u16,
    /// The tier: 1 for a `backup`, which is selected only while no endpoint of tier 0 is available.
    pub tier: u8,
    /// The most requests and WebSockets at the endpoint; `None` without a limit.
    pub max_connections: Option<NonZeroU32>,
    /// The health.
    pub health: Health,
    /// Whether its traffic failed and it is ejected.
    pub ejected: bool,
    /// Where it comes from: `list`, or the name or the discovery that has it.
    pub origin: Option<Arc<str>>,
    /// Its state in its source; `None` for a removed one.
    pub state: Option<MemberState>,
    /// Its zone, if its source has one.
    pub zone: Option<Arc<str>>,
    /// Why it accepts no new connections: `marked` in the configuration, ordered by an `operator`, or
    /// `removed` from its upstream.
    pub draining: Option<Leaving>,
    /// Requests and WebSockets at the endpoint.
    pub active: usize,
    /// The last probe; `None` before the first one ended, or without a health check.
    pub probe: Option<ProbeResult>,
    /// The decayed peak of its latencies at the last response, in seconds; `None` without one.
    pub latency: Option<f64>,
    /// The part of its weight that applies during a slow start; `None` after it.
    pub slow_start: Option<f64>,
    /// Identifies the endpoint for the lifetime of the process.
    #[serde(skip)]
    pub token: u64,
}

impl Cluster {
    /// The state of its discovery; `None` for a list.
    pub fn discovery_status(&self) -> Option<FeedStatus> {
        self.source.feed().map(Feed::status)
    }

    /// The current status.
    pub fn status(&self) -> ClusterStatus {
        let members = self.endpoint_set.current();
        let now = monotonic_millis::now();
        let slow_start = self.spec.slow_start.map(super::build::millis).filter(|over| *over > 0);
        let slow_start = slow_start.map(|over| SlowStart::at(now, over));
        let endpoint = |member: &crate::upstream::balance::Member| {
            let endpoint = member.endpoint();
            EndpointStatus {
                address: endpoint.address().to_string(),
                weight: member.weight(),
                tier: member.tier().get(),
                max_connections: member.limit(),
                health: endpoint.health(),
                ejected: endpoint.is_ejected(),
                origin: Some(Arc::clone(&member.announced().origin)),
                state: Some(member.announced().state()),
                zone: member.announced().zone.clone(),
                draining: Leaving::of(member),
                active: endpoint.active(),
                probe: endpoint.last_probe(),
                latency: seconds(endpoint.last_latency()),
                slow_start: slow_start
                    .map(|slow_start| slow_start.of(endpoint))
                    .filter(|part| *part < WHOLE)
                    .map(|part| f64::from(part) / f64::from(WHOLE)),
                token: endpoint.token().get(),
            }
        };
        let removed = self.endpoint_set.removed_in_use().into_iter().map(EndpointStatus::from);
        ClusterStatus {
            endpoints: members.as_slice().iter().map(endpoint).chain(removed).collect(),
            discovery: self.discovery_status(),
        }
    }
}

impl From<RemovedEndpoint> for EndpointStatus {
    fn from(departed: RemovedEndpoint) -> Self {
        Self {
            address: departed.address,
            weight: 0,
            tier: 0,
            max_connections: None,
            health: Health::Unknown,
            ejected: false,
            origin: None,
            state: None,
            zone: None,
            draining: Some(match departed.removal {
                Removal::Reload => Leaving::Removed,
                Removal::Source => Leaving::Absent,
            }),
            active: departed.active,
            probe: None,
            latency: None,
            slow_start: None,
            token: departed.token.get(),
        }
    }
}

impl RemovedUpstream {
    /// The current status.
    pub fn status(&self) -> ClusterStatus {
        ClusterStatus {
            endpoints: RemovedEndpoint::of(self.departed()).into_iter().map(EndpointStatus::from).collect(),
            discovery: None,
        }
    }
}

/// Microseconds as seconds with two significant digits, which is what an average of a few responses is worth.
fn seconds(micros: f32) -> Option<f64> {
    let micros = f64::from(micros);
    let scale = 10_f64.powf(micros.log10().floor() - 1.0);
    (micros >= 1.0).then(|| (micros / scale).round() * scale / 1e6)
}
