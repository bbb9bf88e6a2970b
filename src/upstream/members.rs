//! The members of one membership of an upstream, with the balancer arranged for them, and the selection among them.

use super::balance::{AllMembers, Balance, Candidates, Group, Member, Open, Tier};
use super::endpoint::Token;
use super::hash_key::KeySource;
use super::health_score::Health;
use super::lease::{Lease, TriedEndpoints};
use super::monotonic_millis;
use super::passive_health::Policy;
use super::slow_start::SlowStart;
use crate::config::WhenAllUnhealthy;
use pingora::protocols::l4::socket::SocketAddr as EngineAddr;
use pingora_load_balancing::Backend;
use std::sync::Arc;
use std::time::Duration;

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

/// Which attempt of a request a selection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    Retry,
}

/// The members of one membership.
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
    pub(super) fn new(plan: &Plan, members: Vec<Member>, backends: Vec<Backend>) -> Arc<Self> {
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

    pub(super) fn backend(&self, index: usize) -> Option<&Backend> {
        self.backends.get(index)
    }

    pub(super) fn balance(&self) -> &dyn Balance {
        &*self.balance
    }

    /// The member with an address.
    pub(super) fn find(&self, address: &EngineAddr) -> Option<&Member> {
        let index = self.backends.binary_search_by(|backend| backend.addr.cmp(address)).ok()?;
        self.members.get(index)
    }

    pub(super) fn index_of(&self, token: Token) -> Option<usize> {
        self.members.iter().position(|member| member.endpoint().token() == token)
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

    /// Selects among a set of members.
    pub(super) fn choose(
        &self,
        open: &Open,
        key: &[u8],
        slow: Option<SlowStart>,
        turn: Turn,
    ) -> Option<usize> {
        let tier = self.first_tier(open);
        let open = tier.as_ref().unwrap_or(open);
        let candidates = Candidates::new(&self.members, open, slow);
        let candidates = if turn == Turn::Retry { candidates.for_retry() } else { candidates };
        // A member that is no candidate, from a faulty balancer, would be selected again and again.
        self.balance.choose(&candidates, key).filter(|index| open.contains(*index))
    }

    /// Selects for a first attempt without [`Members::open`], if the balancer can. To be called only while no
    /// member is new.
    pub(super) fn choose_directly(&self, key: &[u8]) -> Option<usize> {
        if self.has_tiers || self.has_limits {
            return None;
        }
        let chosen = self.balance.choose_directly(&AllMembers::new(&self.members), key)?;
        self.is_usable(chosen).then_some(chosen)
    }

    /// Selects for a retry, and counts the attempt. pingora-load-balancing's iterator does not know the tried
    /// endpoints, so retries do not use it.
    pub(super) fn lease_again(&self, key: &[u8], tried: &TriedEndpoints, policy: Policy) -> Option<Lease> {
        let mut open = self.open();
        for (index, member) in self.members.iter().enumerate() {
            if tried.contains(member.endpoint()) {
                open.remove(index);
            }
        }
        let slow = self.slow_start();
        loop {
            let chosen = self.choose(&open, key, slow, Turn::Retry)?;
            let lease = Lease::of(self.members.get(chosen)?, policy);
            if lease.is_some() {
                return lease;
            }
            // Other requests have filled it since.
            open.remove(chosen);
        }
    }

    /// The draining endpoint that the session of `key` still belongs to, on a route with this drain window.
    pub(super) fn draining_owner(
        &self,
        key: &[u8],
        tried: &TriedEndpoints,
        window: Duration,
    ) -> Option<&Member> {
        if !self.ties_sessions || window.is_zero() {
            return None;
        }
        let mut draining = None;
        for (index, member) in self.members.iter().enumerate() {
            let is_draining = member.draining_since().is_some() && member.weight() > 0;
            if is_draining && member.endpoint().is_usable() && !tried.contains(member.endpoint()) {
                draining.get_or_insert_with(|| Open::with_room(self.members.len())).insert(index);
            }
        }
        let draining = draining?;
        let mut candidates = self.open();
        (0..self.members.len())
            .filter(|index| draining.contains(*index))
            .for_each(|index| candidates.insert(index));
        if let Some(tier) = self.first_tier(&candidates) {
            candidates = tier;
        }
        let owner = self.balance.owner_of(&Candidates::new(&self.members, &candidates, None), key)?;
        let member = self.members.get(owner).filter(|_| draining.contains(owner))?;
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let moment = self.balance.drain_moment(key)?.within(window);
        (monotonic_millis::now() < member.draining_since()?.saturating_add(moment)).then_some(member)
    }

    /// Whether no member is healthy, or only members of later tiers are, and the first probe of one has not ended.
    pub(super) fn awaits_first_probe(&self) -> bool {
        let usable = self.members.iter().filter(|member| member.is_usable()).map(Member::tier);
        let usable = if self.has_tiers { usable.min() } else { usable.take(1).next() };
        if usable.is_some_and(|usable| !self.has_tiers || usable == Tier::FIRST) {
            return false;
        }
        let is_earlier = |member: &Member| usable.is_none_or(|usable| member.tier() < usable);
        self.takers().any(|(_, member)| is_earlier(member) && member.endpoint().awaits_first_probe())
    }

    /// Whether the member at an index can be selected now: no member of an earlier tier can.
    pub(super) fn is_available(&self, index: usize) -> bool {
        let Some(member) = self.members.get(index).filter(|member| member.is_usable() && !member.is_full())
        else {
            return false;
        };
        let is_earlier =
            |other: &Member| other.tier() < member.tier() && other.is_usable() && !other.is_full();
        !self.has_tiers || !self.members.iter().any(is_earlier)
    }

    /// Whether the member at an index accepts new connections and is healthy.
    fn is_usable(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(Member::is_usable)
    }

    /// The slow start at this moment, while a member is new. Without the setting the clock is not read.
    pub(super) fn slow_start(&self) -> Option<SlowStart> {
        let duration = self.slow_start?;
        let slow = SlowStart::at(monotonic_millis::now(), duration);
        self.members.iter().any(|member| slow.is_new(member.endpoint())).then_some(slow)
    }

    /// Returns whether no endpoint can ever be selected.
    pub(super) fn is_empty(&self) -> bool {
        self.takers().next().is_none()
    }

    fn takers(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(|(_, member)| member.is_open())
    }
}
