//! Draining endpoints of an upstream, and the endpoints that can replace them. `control` closes the
//! WebSockets.

use super::Cluster;
use crate::config::OnRemoval;
use crate::upstream::balance::Member;
use crate::upstream::endpoint::Token;
use crate::upstream::endpoint_set::Removal;
use crate::upstream::health_score::Health;
use crate::upstream::monotonic_millis;
use serde::Serialize;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Why an endpoint drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// A reload removed it.
    Removed,
    /// Its name or its discovery has it no longer.
    Absent,
    /// Its discovery announces that it leaves.
    Announced,
    /// Its entry has `drain: true`.
    Marked,
    /// An operator ordered it.
    Operator,
    /// It is unhealthy, and another endpoint is healthy.
    Unhealthy,
}

impl Leaving {
    /// Why a member drains, if the configuration or an operator demands it.
    pub(super) fn of(member: &Member) -> Option<Self> {
        if member.marked_since().is_some() {
            return Some(Self::Marked);
        }
        if member.endpoint().is_drained() {
            return Some(Self::Operator);
        }
        member.announced().departure.map(|_| Self::Announced)
    }
}

/// A draining endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainingEndpoint {
    /// The endpoint's token.
    pub token: Token,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The endpoint's address.
    pub endpoint: String,
    /// The reason.
    pub why: Leaving,
    /// When the drain began, in milliseconds of the upstream clock; `None` if the endpoint is not drained.
    since: Option<u64>,
    /// What happens to its WebSockets, if its source removed it or announces that it leaves.
    pub on_removal: OnRemoval,
    /// When it ends, in milliseconds of the upstream clock, if its source says so.
    pub deadline: Option<u64>,
    /// Whether no other endpoint can serve its clients: the drain waits for one, at the latest for the deadline.
    pub is_last: bool,
}

impl DrainingEndpoint {
    /// The time since the drain began; `None` for another reason.
    pub fn draining_for(&self) -> Option<Duration> {
        Some(Duration::from_millis(monotonic_millis::now().saturating_sub(self.since?)))
    }

    /// The time until its source ends it; `None` if that is not known.
    pub fn time_left(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.deadline?.saturating_sub(monotonic_millis::now())))
    }
}

/// An endpoint that accepts new connections.
#[derive(Clone, Copy, Debug)]
pub struct AcceptingEndpoint {
    /// The endpoint's token.
    pub token: Token,
    /// The weight among the others.
    pub weight: u16,
    /// `max_connections`.
    pub limit: Option<NonZeroU32>,
}

/// An operator's order for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept no new connections, and close the WebSockets with 1012 so that the clients reconnect.
    Drain,
    /// Accept new connections again.
    Undrain,
}

impl Cluster {
    /// Applies an operator's order to the endpoint with this address; `None` if there is none. The order
    /// belongs to the address and survives reloads.
    pub fn order(&self, address: &str, order: Order) -> Option<()> {
        let members = self.endpoint_set.current();
        let named = |member: &&Member| member.endpoint().name() == address;
        let endpoint = members.as_slice().iter().find(named)?.endpoint();
        if endpoint.is_drained() != (order == Order::Drain) {
            let upstream = &*self.name;
            if order == Order::Drain {
                log::info!(upstream, endpoint = address; "endpoint drain started by the admin API");
            } else {
                log::info!(upstream, endpoint = address; "endpoint drain ended by the admin API");
            }
            // The endpoint received no new requests for a while, so its caches are as empty as those of a new
            // one.
            endpoint.join_time().begin(monotonic_millis::now());
        }
        endpoint.set_drained(order == Order::Drain);
        Some(())
    }

    /// The draining endpoints that still have requests or WebSockets.
    ///
    /// An unhealthy endpoint is included only while another one is healthy. If none is, the probes may be
    /// wrong, and the clients have no other endpoint.
    pub fn leaving(&self) -> Vec<DrainingEndpoint> {
        let members = self.endpoint_set.current();
        let well = members.as_slice().iter().any(Self::is_well);
        let stays = |member: &Member| Self::is_well(member) && member.announced().departure.is_none();
        let is_last = !members.as_slice().iter().any(stays);
        let draining_endpoint = |token, endpoint, why, since, deadline| DrainingEndpoint {
            token,
            upstream: Arc::clone(&self.name),
            endpoint,
            why,
            since,
            on_removal: self.spec.on_removal,
            deadline,
            is_last,
        };
        let removed = self.endpoint_set.removed_in_use().into_iter();
        let mut leaving: Vec<_> = removed
            .map(|departed| match departed.removal {
                Removal::Reload => {
                    draining_endpoint(departed.token, departed.address, Leaving::Removed, None, None)
                }
                Removal::Source => draining_endpoint(
                    departed.token,
                    departed.address,
                    Leaving::Absent,
                    Some(departed.since),
                    departed.deadline,
                ),
            })
            .collect();
        for member in members.as_slice() {
            let endpoint = member.endpoint();
            let ill = || (well && endpoint.health() == Health::Unhealthy).then_some(Leaving::Unhealthy);
            let Some(why) = Leaving::of(member).or_else(ill) else { continue };
            if endpoint.active() > 0 {
                leaving.push(draining_endpoint(
                    endpoint.token(),
                    endpoint.name().to_owned(),
                    why,
                    member.draining_since(),
                    member.announced().departure.and_then(|departure| departure.deadline),
                ));
            }
        }
        leaving
    }

    /// A drain of `websockets` WebSockets at one of its endpoints began at `endpoint`'s moment, and closes them within
    /// `window` from now on. Returns the count to which the drain adds each one that it closes: as many new WebSockets
    /// prefer endpoints that have joined since.
    pub fn begin_drain(
        &self,
        endpoint: &DrainingEndpoint,
        window: Duration,
        websockets: usize,
    ) -> Arc<AtomicUsize> {
        self.endpoint_set.begin_drain(endpoint.since, window, websockets)
    }

    /// The endpoints that accept new connections, with their weights. The weight of an endpoint is 0 while one of an
    /// earlier tier accepts them.
    pub fn accepting(&self) -> Vec<AcceptingEndpoint> {
        let members = self.endpoint_set.current();
        let well = || members.as_slice().iter().filter(|member| Self::is_well(member));
        let first = well().map(Member::tier).min();
        let accepting = |member: &Member| AcceptingEndpoint {
            token: member.endpoint().token(),
            weight: if Some(member.tier()) == first { member.weight() } else { 0 },
            limit: member.limit(),
        };
        well().map(accepting).collect()
    }

    fn is_well(member: &Member) -> bool {
        member.is_open() && member.endpoint().is_usable()
    }
}
