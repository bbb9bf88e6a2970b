//! The members of an upstream that may be selected now, prepared for many selections.
//!
//! A set is valid until an endpoint or the membership changes, which the upstream's [`EndpointWatch`] counts, and until the
//! moment at which time changes it: the end of an ejection, or the next step of a slow start. The first selection after that
//! makes another one. `max_connections` changes with every request, so full members are in the set and are skipped.

use super::balance::{CandidateSet, Candidates, Exclusion, Member, Open, Tier};
use super::endpoint_watch::EndpointWatch;
use super::health_score::Health;
use super::members::Members;
use super::monotonic_millis;
use super::reconnects::{Newcomers, Reconnects};
use super::slow_start::{SlowStart, WHOLE};
use super::tried_endpoints::TriedEndpoints;
use crate::config::WhenAllUnhealthy;
use std::sync::Arc;
use std::time::Duration;

/// A slow start grows in steps of a hundredth, and of no less than these milliseconds.
const SHORTEST_STEP: u64 = 100;

/// The members that may be selected, of the first tier that has any.
pub(super) struct ReadySet {
    members: Arc<Members>,
    candidates: CandidateSet,
    /// The candidates and draining members, if one drains that has sessions: among them is the owner of a session.
    owners: Option<CandidateSet>,
    /// The newcomers that WebSockets after a drain prefer.
    newcomers: Option<Newcomers>,
    awaits_first_probe: bool,
    /// The version of the watch; `None` for a set that is never valid.
    version: Option<u64>,
    /// The millisecond from which on it is not valid; `u64::MAX` if time changes nothing.
    valid_until: u64,
}

/// What one look at all members finds.
struct Look {
    now: u64,
    /// Those that accept connections and are healthy, of the first tier that has any, and that tier.
    usable: Vec<usize>,
    first_tier: Option<Tier>,
    /// Draining ones with sessions.
    draining: Vec<usize>,
    /// The first tier with a member that was not probed yet.
    unprobed_tier: Option<Tier>,
    /// When the next ejection ends.
    next_end: u64,
}

impl Look {
    fn at(members: &[Member], now: u64) -> Self {
        let mut look = Self {
            now,
            usable: Vec::with_capacity(members.len()),
            first_tier: None,
            draining: Vec::new(),
            unprobed_tier: None,
            next_end: u64::MAX,
        };
        members.iter().enumerate().for_each(|(index, member)| look.take(index, member));
        look
    }

    fn take(&mut self, index: usize, member: &Member) {
        if member.weight() == 0 {
            return;
        }
        let (endpoint, tier) = (member.endpoint(), member.tier());
        let ejected_until = endpoint.passive().out_until();
        let is_ejected = ejected_until > self.now;
        if is_ejected {
            self.next_end = self.next_end.min(ejected_until);
        }
        let is_healthy = endpoint.verdict() == Health::Healthy && !is_ejected;
        if is_healthy && member.draining_since().is_some() {
            self.draining.push(index);
        }
        if !member.is_open() {
            return;
        }
        if !is_healthy {
            if endpoint.awaits_first_probe() {
                self.unprobed_tier = Some(self.unprobed_tier.map_or(tier, |first| first.min(tier)));
            }
            return;
        }
        if self.first_tier.is_none_or(|first| tier < first) {
            self.usable.clear();
            self.first_tier = Some(tier);
        }
        if self.first_tier == Some(tier) {
            self.usable.push(index);
        }
    }
}

impl ReadySet {
    /// A set that is never valid.
    pub(super) fn outdated(members: Arc<Members>) -> Self {
        Self {
            candidates: CandidateSet::new(&[], Open::with_room(0), None),
            members,
            owners: None,
            newcomers: None,
            awaits_first_probe: false,
            version: None,
            valid_until: 0,
        }
    }

    /// The set at a version of the watch, which was read before the members.
    pub(super) fn new(
        members: Arc<Members>,
        watch: &Arc<EndpointWatch>,
        reconnects: &Reconnects,
        version: u64,
    ) -> Self {
        let now = monotonic_millis::now();
        let all = members.as_slice();
        let Look { mut usable, first_tier, draining, unprobed_tier, next_end, .. } = Look::at(all, now);
        let awaits_first_probe =
            unprobed_tier.is_some_and(|unprobed| first_tier.is_none_or(|first| unprobed < first));
        if usable.is_empty() && members.when_all_unhealthy() == WhenAllUnhealthy::Any {
            usable = takers_of_first_tier(all);
        }
        let slow = members.slow_start_duration().map(|duration| SlowStart::at(now, duration));
        let set = |indices: &[usize]| {
            let mut open = Open::with_room(all.len());
            indices.iter().for_each(|index| open.insert(*index));
            CandidateSet::new(all, open, slow)
        };
        let has_owners = members.ties_sessions() && !draining.is_empty();
        let owners = has_owners.then(|| set(&owners(all, &usable, &draining)).kept(None));
        let order = watch.load_order().map(|_| Arc::clone(watch));
        let candidates = set(&usable).kept(order);
        let newcomers = match members.ties_sessions() {
            true => None,
            false => reconnects.newcomers(now, all, &candidates),
        };
        let series_end = newcomers.as_ref().map_or(u64::MAX, Newcomers::end);
        let next_step = slow.filter(|_| candidates.has_newcomers()).map_or(u64::MAX, |slow| {
            let step = now.saturating_add((slow.duration() / u64::from(WHOLE / 10)).max(SHORTEST_STEP));
            let ends = candidates.iter().filter_map(|index| slow.end(all.get(index)?.endpoint()));
            ends.min().map_or(step, |end| step.min(end))
        });
        Self {
            candidates,
            owners,
            newcomers,
            awaits_first_probe,
            version: Some(version),
            valid_until: next_end.min(next_step).min(series_end),
            members,
        }
    }

    /// Returns whether the set is that of the present state.
    pub(super) fn is_valid(&self, watch: &EndpointWatch) -> bool {
        self.version == Some(watch.version())
            && (self.valid_until == u64::MAX || monotonic_millis::now() < self.valid_until)
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.version
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether no member is healthy, or only members of later tiers are, and the first probe of one has not ended.
    pub(super) fn awaits_first_probe(&self) -> bool {
        self.awaits_first_probe
    }

    /// Selects for a request with this key. `None` if every member that may be selected was tried or is full.
    pub(super) fn choose(&self, key: &[u8], tried: &TriedEndpoints) -> Option<&Member> {
        let (members, balance) = (self.members.as_slice(), self.members.balance());
        let exclusion = self.exclusion(tried);
        let is_retry = !tried.is_first_choice();
        let candidates = Candidates::new(members, &self.candidates, exclusion).for_retry(is_retry);
        // A member that is no candidate, from a faulty balancer, would be selected again and again.
        let chosen = balance.choose(&candidates, key).filter(|index| self.candidates.contains(*index));
        if let (None, Exclusion::TriedOrFull(_)) = (chosen, exclusion) {
            // Nearly all of them were tried or are full: the others, or the next tier.
            let listed = self.members.list(tried);
            let candidates = Candidates::new(members, &listed, Exclusion::Nothing).for_retry(is_retry);
            let chosen = balance.choose(&candidates, key).filter(|index| listed.contains(*index));
            return members.get(chosen?);
        }
        members.get(chosen?)
    }

    /// Selects for a client whose WebSocket a drain has closed. `None` if no newcomer has less than its even share.
    pub(super) fn choose_newcomer(&self, tried: &TriedEndpoints) -> Option<&Member> {
        self.newcomers.as_ref()?.choose(self.members.as_slice(), self.exclusion(tried))
    }

    fn exclusion<'a>(&self, tried: &'a TriedEndpoints) -> Exclusion<'a> {
        match tried.is_empty() && !self.members.has_limits() {
            true => Exclusion::Nothing,
            false => Exclusion::TriedOrFull(tried),
        }
    }

    /// The draining endpoint that the session of `key` still belongs to, on a route with this drain window.
    pub(super) fn draining_owner(
        &self,
        key: &[u8],
        tried: &TriedEndpoints,
        window: Duration,
    ) -> Option<&Member> {
        let owners = self.owners.as_ref().filter(|_| !window.is_zero())?;
        let (members, balance) = (self.members.as_slice(), self.members.balance());
        let owner = balance.owner_of(&Candidates::new(members, owners, Exclusion::NotOwner(tried)), key)?;
        let member = members.get(owner)?;
        let since = member.draining_since()?;
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let moment = balance.drain_moment(key)?.within(window);
        (monotonic_millis::now() < since.saturating_add(moment)).then_some(member)
    }

    /// Whether a member that was not tried can be selected.
    pub(super) fn has_place(&self, tried: &TriedEndpoints) -> bool {
        let candidates =
            Candidates::new(self.members.as_slice(), &self.candidates, Exclusion::TriedOrFull(tried));
        self.candidates.iter().any(|index| candidates.contains(index)) || self.members.has_place(tried)
    }

    /// Whether the member at an index can be selected now: no member of an earlier tier can.
    pub(super) fn is_available(&self, index: usize) -> bool {
        let Some(member) = self.members.as_slice().get(index) else { return false };
        if self.candidates.contains(index) {
            return member.endpoint().is_usable() && !member.is_full();
        }
        // One of a later tier is available only if all of the earlier ones are full.
        self.members.has_tiers() && self.members.has_limits() && self.members.is_available(index)
    }
}

/// The members that accept connections if they are healthy, of the first tier that has any.
fn takers_of_first_tier(members: &[Member]) -> Vec<usize> {
    let takers = || members.iter().enumerate().filter(|(_, member)| member.is_open());
    let first = takers().map(|(_, member)| member.tier()).min();
    takers().filter(|(_, member)| Some(member.tier()) == first).map(|(index, _)| index).collect()
}

/// The usable and the draining members of the first tier that has any, in order. One that leaves is of the tier that it was
/// in before.
fn owners(members: &[Member], usable: &[usize], draining: &[usize]) -> Vec<usize> {
    let tier = |index: &usize| members.get(*index).map(|member| member.tier().get());
    let mut owners = [usable, draining].concat();
    owners.sort_unstable();
    owners.dedup();
    let first = owners.iter().filter_map(tier).min();
    owners.retain(|index| tier(index) == first);
    owners
}
