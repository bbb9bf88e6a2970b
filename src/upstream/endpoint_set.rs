//! The endpoints of an upstream over time, with the balancer arranged for the current ones.
//!
//! pingora-load-balancing rebuilds its selection from the endpoint set when the membership changes. An
//! endpoint lives as long as its address is a member. The load of a removed endpoint is found again while a
//! lease holds it.

use super::address::Address;
use super::announced::{Announced, Identity, Tier};
use super::balance::{AllMembers, Balance, Candidates, Group, Member, Open, RoundRobin};
use super::endpoint::{Endpoint, Load, Token};
use super::hash_key::KeySource;
use super::health_score::Health;
use super::lease::{Lease, TriedEndpoints};
use super::monotonic_millis;
use super::passive_health::Policy;
use super::slow_start::SlowStart;
use crate::config::WhenAllUnhealthy;
use parking_lot::{Mutex, RwLock};
use pingora::protocols::l4::socket::SocketAddr as EngineAddr;
use pingora_load_balancing::Backend;
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

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
    fn new(plan: &Plan, members: Vec<Member>, backends: Vec<Backend>) -> Arc<Self> {
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

/// The state that the endpoint set of the next generation inherits.
#[derive(Default)]
pub(super) struct CarriedState {
    /// The members with their weights, reused when their addresses appear again.
    pub(super) members: Vec<Member>,
    /// Removed endpoints that are still in use.
    pub(super) departed: Departed,
    /// Whether startup was complete.
    pub(super) is_started: bool,
}

/// Why an endpoint is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// A reload removed it.
    Reload,
    /// Its name or its discovery has it no longer.
    Source,
}

/// A removed endpoint.
#[derive(Clone, Debug)]
pub(super) struct DepartedEndpoint {
    load: Weak<Load>,
    removal: Removal,
    /// The deadline that its source had announced.
    deadline: Option<u64>,
    /// When it was removed.
    since: u64,
}

impl DepartedEndpoint {
    /// Returns whether nothing uses it any more, which is final.
    pub(super) fn is_unused(&self) -> bool {
        self.load.strong_count() == 0
    }
}

/// The removed endpoints of an upstream that are still in use.
pub(super) type Departed = HashMap<Identity, DepartedEndpoint>;

/// A removed endpoint that still has requests or WebSockets.
#[derive(Clone, Debug)]
pub(super) struct RemovedEndpoint {
    pub(super) token: Token,
    pub(super) address: String,
    pub(super) active: usize,
    pub(super) removal: Removal,
    pub(super) deadline: Option<u64>,
    pub(super) since: u64,
}

impl RemovedEndpoint {
    /// Those that are still in use, ordered by address.
    pub(super) fn of(departed: &Departed) -> Vec<Self> {
        let in_use = departed.iter().filter_map(|(identity, departed)| {
            let load = departed.load.upgrade()?;
            Some(Self {
                token: load.token(),
                address: identity.address.to_string(),
                active: load.active(),
                removal: departed.removal,
                deadline: departed.deadline,
                since: departed.since,
            })
        });
        let mut found: Vec<_> = in_use.filter(|departed| departed.active > 0).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }
}

/// The members of an upstream over time.
pub(super) struct EndpointSet {
    plan: Plan,
    // A lock instead of an ArcSwap: only `control` swaps generations. Held for one reference count.
    current: RwLock<Arc<Members>>,
    /// Removed endpoints that are still in use.
    departed: Mutex<Departed>,
    /// Whether startup is complete: endpoints that join from then on are new.
    is_started: AtomicBool,
    /// Whether a membership was installed: later ones come from the source, and not from a reload.
    is_installed: AtomicBool,
    /// A probe has ended, or the members have changed.
    changed: Notify,
}

impl Default for EndpointSet {
    /// The defaults that pingora-load-balancing's `build` without a configuration implies: round robin,
    /// with `when_all_unhealthy: fail`.
    fn default() -> Self {
        let balance = Box::new(RoundRobin::default());
        let plan = Plan {
            upstream: "".into(),
            balance,
            when_all_unhealthy: WhenAllUnhealthy::Fail,
            initial_health: Health::Healthy,
            slow_start: None,
        };
        Self::new(plan, None)
    }
}

impl EndpointSet {
    /// Creates an endpoint set with the state carried over from the prior one.
    pub(super) fn new(plan: Plan, carried: Option<CarriedState>) -> Self {
        let CarriedState { members, departed, is_started } = carried.unwrap_or_default();
        let is_started = AtomicBool::new(is_started);
        let current = RwLock::new(Members::new(&plan, members, Vec::new()));
        Self {
            plan,
            current,
            departed: Mutex::new(departed),
            is_started,
            is_installed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Completes startup: endpoints that join from now on are new.
    pub(super) fn complete_startup(&self) {
        self.is_started.store(true, Relaxed);
    }

    /// Wakes the tasks that wait in [`EndpointSet::first_probe`].
    pub(super) fn announce_probe(&self) {
        self.changed.notify_waiters();
    }

    /// Waits while no member is healthy and one is not probed yet.
    pub(super) async fn first_probe(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the check, so that a change between check and wait is not missed.
            changed.as_mut().enable();
            if !self.current().awaits_first_probe() {
                return;
            }
            changed.await;
        }
    }

    /// The members now.
    pub(super) fn current(&self) -> Arc<Members> {
        Arc::clone(&self.current.read())
    }

    /// The removed endpoints that are still in use.
    pub(super) fn departed(&self) -> Departed {
        self.departed.lock().clone()
    }

    /// The removed endpoints that are still in use.
    pub(super) fn removed_in_use(&self) -> Vec<RemovedEndpoint> {
        RemovedEndpoint::of(&self.departed.lock())
    }

    /// All present and removed endpoints that are still in use, for the removal of the upstream.
    pub(super) fn all_departed(&self) -> Departed {
        let mut departed = self.departed();
        let now = monotonic_millis::now();
        let current = self.current();
        departed
            .extend(current.as_slice().iter().map(|member| member_departed(member, Removal::Reload, now)));
        departed
    }

    /// Installs a new membership. pingora-load-balancing calls it, never concurrently.
    pub(super) fn install(&self, backends: &BTreeSet<Backend>) -> Arc<Members> {
        // Held throughout, since members must not be replaced meanwhile.
        let mut departed = self.departed.lock();
        let before = self.current();
        let removal = match self.is_installed.swap(true, Relaxed) {
            true => Removal::Source,
            false => Removal::Reload,
        };
        let now = monotonic_millis::now();
        let mut known: HashMap<&Address, &Member> =
            before.members.iter().map(|member| (member.endpoint().address(), member)).collect();
        let mut members = Vec::with_capacity(backends.len());
        let mut member_backends = Vec::with_capacity(backends.len());
        for backend in backends {
            let Some(address) = Address::from_engine(&backend.addr) else { continue };
            // Discovery sets it on every backend.
            let Some(announced) = backend.ext.get::<Announced>().map(|announced| Arc::new(announced.clone()))
            else {
                continue;
            };
            // Another identifier at the address is another endpoint.
            let before = known.remove(&address).and_then(|member| {
                let is_same = member.announced().uid == announced.uid;
                if !is_same {
                    departed.extend([member_departed(member, removal, now)]);
                }
                is_same.then_some(member)
            });
            let (weight, is_marked) = (announced.settings.weight, announced.settings.marked);
            let host = announced.host.clone();
            let marked_before = before.and_then(Member::marked_since);
            let marked = is_marked.then(|| marked_before.unwrap_or(now));
            let endpoint = match before {
                // A generation that may still be rejected must not change an endpoint of the serving one.
                Some(member) if member.endpoint().host() != host => member.endpoint().renamed(host),
                Some(member) => {
                    // The endpoint received no new requests for a while, so its caches are as empty as those
                    // of a new one.
                    if (member.weight() == 0 || marked_before.is_some()) && weight > 0 && !is_marked {
                        member.endpoint().join_time().begin(now);
                    }
                    Arc::clone(member.endpoint())
                }
                None => {
                    let identity = Identity { address: address.clone(), uid: announced.uid.clone() };
                    let load = departed.remove(&identity).and_then(|departed| departed.load.upgrade());
                    let endpoint =
                        Endpoint::new(&self.plan.upstream, address, load, self.plan.initial_health);
                    endpoint.set_host(host);
                    self.adopt(endpoint)
                }
            };
            members.push(Member::new(endpoint, announced).marked(marked));
            member_backends.push(backend.clone());
        }
        departed.extend(known.into_values().map(|member| member_departed(member, removal, now)));
        let members = Members::new(&self.plan, members, member_backends);
        *self.current.write() = Arc::clone(&members);
        drop(before);
        self.changed.notify_waiters();
        departed.retain(|_, departed| !departed.is_unused());
        members
    }

    /// The configured drains of members, by address, have begun at these moments.
    pub(super) fn restore_marks(&self, moments: &HashMap<String, u64>) {
        let _departed = self.departed.lock();
        let before = self.current();
        let marked = |member: &Member| {
            let moment = moments.get(&member.endpoint().address().to_string());
            let marked = member.marked_since().map(|since| moment.copied().unwrap_or(since));
            member.clone().marked(marked)
        };
        let members = before.members.iter().map(marked).collect();
        *self.current.write() = Members::new(&self.plan, members, before.backends.clone());
    }

    /// An endpoint that is no member, as one that a resolver has removed: a WebSocket of another process is there.
    pub(super) fn removed_endpoint(&self, address: Address) -> Arc<Endpoint> {
        let mut departed = self.departed.lock();
        let identity = Identity { address: address.clone(), uid: None };
        let load = departed.get(&identity).and_then(|departed| departed.load.upgrade());
        let endpoint = Endpoint::new(&self.plan.upstream, address, load, self.plan.initial_health);
        departed
            .entry(identity)
            .or_insert_with(|| DepartedEndpoint {
                load: Weak::new(),
                removal: Removal::Reload,
                deadline: None,
                since: monotonic_millis::now(),
            })
            .load = Arc::downgrade(endpoint.load());
        endpoint
    }

    fn adopt(&self, endpoint: Arc<Endpoint>) -> Arc<Endpoint> {
        match (self.is_started.load(Relaxed), self.plan.initial_health) {
            (false, _) => {}
            (true, Health::Unknown) => endpoint.join_time().expect(),
            (true, _) => endpoint.join_time().begin(monotonic_millis::now()),
        }
        endpoint
    }
}

/// A member that is none any more.
fn member_departed(member: &Member, removal: Removal, now: u64) -> (Identity, DepartedEndpoint) {
    let announced = member.announced();
    let identity = Identity { address: member.endpoint().address().clone(), uid: announced.uid.clone() };
    let departed = DepartedEndpoint {
        load: Arc::downgrade(member.endpoint().load()),
        removal,
        deadline: announced.departure.and_then(|departure| departure.deadline),
        // It may have been draining already.
        since: member.draining_since().unwrap_or(now),
    };
    (identity, departed)
}
