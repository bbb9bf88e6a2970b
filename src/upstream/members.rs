//! The members of one membership of an upstream, with the balancer arranged for them.
//!
//! Methods that look at all members are for changes and failures. A selection uses what a [`ReadySet`] has prepared.
//!
//! [`ReadySet`]: super::ready_set::ReadySet

use super::balance::{Balance, COMPARED, CandidateSet, Group, Member, Open};
use super::endpoint_watch::EndpointWatch;
use super::hash_key::KeySource;
use super::health_score::Health;
use super::monotonic_millis;
use super::slow_start::SlowStart;
use super::tried_endpoints::TriedEndpoints;
use crate::config::WhenAllUnhealthy;
use pingora::protocols::l4::socket::SocketAddr as EngineAddr;
use pingora_load_balancing::Backend;
use std::sync::Arc;

/// The settings of an upstream that apply to its members.
pub(super) struct Plan {
    pub(super) upstream: Arc<str>,
    pub(super) balance: Box<dyn Balance>,
    pub(super) when_all_unhealthy: WhenAllUnhealthy,
    /// The health of an endpoint before its first probe.
    pub(super) initial_health: Health,
    /// The duration of the slow start in milliseconds.
    pub(super) slow_start: Option<u64>,
}

/// The members of one membership. What may be selected among them changes more often: [`ReadySet`].
///
/// [`ReadySet`]: super::ready_set::ReadySet
pub(super) struct Members {
    members: Vec<Member>,
    /// The members in the same order, by address, as pingora-load-balancing's type.
    backends: Vec<Backend>,
    balance: Box<dyn Balance>,
    when_all_unhealthy: WhenAllUnhealthy,
    slow_start: Option<u64>,
    /// Whether the balancer ties sessions to members.
    ties_sessions: bool,
    /// Whether the members are of different tiers.
    has_tiers: bool,
    /// Whether a member has a limit.
    has_limits: bool,
}

impl Members {
    /// The members, whose changes `watch` learns of from now on.
    pub(super) fn new(
        plan: &Plan,
        watch: &Arc<EndpointWatch>,
        members: Vec<Member>,
        backends: Vec<Backend>,
    ) -> Arc<Self> {
        members.iter().for_each(|member| member.endpoint().watch(watch));
        if watch.load_order().is_some() && members.len() > COMPARED {
            members.iter().for_each(|member| member.endpoint().announce_leaves());
        }
        let balance = plan.balance.arrange(&Group { upstream: &plan.upstream, members: &members });
        let ties_sessions = balance.key() != KeySource::Nothing || balance.cookie(&plan.upstream).is_some();
        Arc::new(Self {
            has_tiers: members.iter().any(|member| member.tier() != members[0].tier()),
            has_limits: members.iter().any(|member| member.limit().is_some()),
            when_all_unhealthy: plan.when_all_unhealthy,
            slow_start: plan.slow_start,
            members,
            backends,
            balance,
            ties_sessions,
        })
    }

    pub(super) fn as_slice(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend with an address.
    pub(super) fn backend(&self, address: &EngineAddr) -> Option<&Backend> {
        self.backends.get(self.position(address)?)
    }

    pub(super) fn balance(&self) -> &dyn Balance {
        &*self.balance
    }

    /// The member with an address.
    pub(super) fn find(&self, address: &EngineAddr) -> Option<&Member> {
        self.members.get(self.position(address)?)
    }

    fn position(&self, address: &EngineAddr) -> Option<usize> {
        self.backends.binary_search_by(|backend| backend.addr.cmp(address)).ok()
    }

    /// Whether the balancer ties sessions to members.
    pub(super) fn ties_sessions(&self) -> bool {
        self.ties_sessions
    }

    /// Whether a member has a limit.
    pub(super) fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// Whether the members are of different tiers.
    pub(super) fn has_tiers(&self) -> bool {
        self.has_tiers
    }

    pub(super) fn when_all_unhealthy(&self) -> WhenAllUnhealthy {
        self.when_all_unhealthy
    }

    /// The duration of the slow start in milliseconds.
    pub(super) fn slow_start_duration(&self) -> Option<u64> {
        self.slow_start
    }

    /// The members that may be selected, of all tiers: those that accept new connections and are healthy. If none
    /// is healthy, `when_all_unhealthy: any` adds the unhealthy ones. Full ones may not be selected.
    pub(super) fn open(&self) -> Open {
        let mut open = self.open_or_full();
        if self.has_limits {
            let full = self.members.iter().enumerate().filter(|(_, member)| member.is_full());
            full.for_each(|(index, _)| open.remove(index));
        }
        open
    }

    /// The members that may be selected if they are not full.
    fn open_or_full(&self) -> Open {
        let mut open = Open::with_room(self.members.len());
        let usable = self.members.iter().enumerate().filter(|(_, member)| member.is_usable());
        usable.for_each(|(index, _)| open.insert(index));
        if open.is_empty() && self.when_all_unhealthy == WhenAllUnhealthy::Any {
            self.takers().for_each(|(index, _)| open.insert(index));
        }
        open
    }

    /// Returns whether a member that was not tried is not selected only because it is full, or was full a moment ago.
    pub(super) fn are_full(&self, tried: &TriedEndpoints) -> bool {
        self.has_limits && self.has_untried(&self.open_or_full(), tried)
    }

    /// Returns whether a member that was not tried can be selected.
    pub(super) fn has_place(&self, tried: &TriedEndpoints) -> bool {
        self.has_untried(&self.open(), tried)
    }

    fn has_untried(&self, open: &Open, tried: &TriedEndpoints) -> bool {
        let within = self.members.iter().enumerate().filter(|(index, _)| open.contains(*index));
        within.map(|(_, member)| member.endpoint()).any(|endpoint| !tried.contains(endpoint))
    }

    /// The part of a set that is of its first tier; `None` if that is the whole set.
    fn first_tier(&self, open: &Open) -> Option<Open> {
        if !self.has_tiers {
            return None;
        }
        let within = || self.members.iter().enumerate().filter(|(index, _)| open.contains(*index));
        let first = within().map(|(_, member)| member.tier()).min()?;
        let mut part = open.clone();
        within().filter(|(_, member)| member.tier() != first).for_each(|(index, _)| part.remove(index));
        Some(part)
    }

    /// The members that may be selected for a request, of the first tier that has any: those that were not tried and are
    /// not full. Listing them takes time in proportion to the members.
    pub(super) fn list(&self, tried: &TriedEndpoints) -> CandidateSet {
        let mut open = self.open();
        for (index, member) in self.members.iter().enumerate() {
            if !tried.is_empty() && tried.contains(member.endpoint()) {
                open.remove(index);
            }
        }
        let open = self.first_tier(&open).unwrap_or(open);
        CandidateSet::new(&self.members, open, self.slow_start())
    }

    /// Whether the member at an index can be selected now: it is not full, and no member of an earlier tier can be.
    pub(super) fn is_available(&self, index: usize) -> bool {
        let Some(member) = self.members.get(index).filter(|member| member.is_usable() && !member.is_full())
        else {
            return false;
        };
        let is_earlier =
            |other: &Member| other.tier() < member.tier() && other.is_usable() && !other.is_full();
        !self.has_tiers || !self.members.iter().any(is_earlier)
    }

    /// The slow start at this moment. Without the setting the clock is not read.
    pub(super) fn slow_start(&self) -> Option<SlowStart> {
        self.slow_start.map(|duration| SlowStart::at(monotonic_millis::now(), duration))
    }

    /// Returns whether no endpoint can ever be selected.
    pub(super) fn is_empty(&self) -> bool {
        self.takers().next().is_none()
    }

    /// The members that accept new connections while they are healthy.
    fn takers(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(|(_, member)| member.is_open())
    }
}
