//! Which endpoints of an upstream those who are on them should leave, and who could take them in.
//! Asking them is live's.

use super::Cluster;
use crate::upstream::balance::Member;
use crate::upstream::clock;
use crate::upstream::endpoint::Token;
use crate::upstream::health_score::Health;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Why an endpoint should be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// A reload or a resolver removed it.
    Removed,
    /// Its line says `drain: true`.
    Marked,
    /// An operator said so.
    Operator,
    /// It is unhealthy, and another one is not.
    Unhealthy,
}

impl Leaving {
    /// Why a member should be left, as far as it was said to be.
    pub(super) fn of(member: &Member) -> Option<Self> {
        if member.marked_since().is_some() {
            return Some(Self::Marked);
        }
        member.endpoint().is_drained().then_some(Self::Operator)
    }
}

/// An endpoint that should be left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainingEndpoint {
    /// Its name within the process.
    pub token: Token,
    /// Its upstream.
    pub upstream: Arc<str>,
    /// Its address.
    pub endpoint: String,
    /// Why.
    pub why: Leaving,
    /// Since when its drain goes on, in milliseconds of this module's clock; none when nothing drains it.
    since: Option<u64>,
}

impl DrainingEndpoint {
    /// For how long its drain goes on; none when it is left for another reason.
    pub fn draining_for(&self) -> Option<Duration> {
        Some(Duration::from_millis(clock::now().saturating_sub(self.since?)))
    }
}

/// What an operator says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take no new connection, and ask the WebSockets to come again.
    Drain,
    /// Take part again.
    Undrain,
}

impl Cluster {
    /// Takes an operator's order for the endpoint with this address, `None` when there is none. The
    /// order belongs to the address: it outlives reloads that keep the endpoint.
    pub fn order(&self, address: &str, order: Order) -> Option<()> {
        let members = self.roster.current();
        let named = |member: &&Member| member.endpoint().name() == address;
        let endpoint = members.seats().iter().find(named)?.endpoint();
        if endpoint.is_drained() != (order == Order::Drain) {
            log::info!(upstream = &*self.name, endpoint = address, order:? = order; "an operator's order");
            // Nothing new came to it for a while: it is as empty as if it were new itself.
            endpoint.arrival().begin(clock::now());
        }
        endpoint.set_drained(order == Order::Drain);
        Some(())
    }

    /// The endpoints that should be left and still have somebody on them.
    ///
    /// An unhealthy one is among them only while another one is well: when nobody is, the probes may
    /// be what is wrong, and there is nowhere to go.
    pub fn leaving(&self) -> Vec<DrainingEndpoint> {
        let members = self.roster.current();
        let leaver = |token, endpoint, why, since| DrainingEndpoint {
            token,
            upstream: Arc::clone(&self.name),
            endpoint,
            why,
            since,
        };
        let removed = self.roster.left_behind().into_iter();
        let mut leaving: Vec<_> = removed
            .map(|departed| leaver(departed.token, departed.address, Leaving::Removed, None))
            .collect();
        let well = members.seats().iter().any(Self::is_well);
        for member in members.seats() {
            let endpoint = member.endpoint();
            let ill = || (well && endpoint.health() == Health::Unhealthy).then_some(Leaving::Unhealthy);
            let Some(why) = Leaving::of(member).or_else(ill) else { continue };
            if endpoint.active() > 0 {
                leaving.push(leaver(
                    endpoint.token(),
                    endpoint.name().to_owned(),
                    why,
                    member.draining_since(),
                ));
            }
        }
        leaving
    }

    /// The endpoints that take new connections now, with their weights.
    pub fn takers(&self) -> Vec<(Token, u16)> {
        let members = self.roster.current();
        let well = members.seats().iter().filter(|member| Self::is_well(member));
        well.map(|member| (member.endpoint().token(), member.weight())).collect()
    }

    fn is_well(member: &Member) -> bool {
        member.is_open() && member.endpoint().is_usable()
    }
}
