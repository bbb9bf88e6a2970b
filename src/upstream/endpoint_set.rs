//! The endpoints of an upstream over time.
//!
//! pingora-load-balancing rebuilds its selection from the endpoint set when the membership changes. An
//! endpoint lives as long as its address is a member. The load of a removed endpoint is found again while a
//! lease holds it.

use super::address::Address;
use super::balance::{Member, RoundRobin};
use super::discovery::{BackendEntry, MemberSettings};
use super::endpoint::{Endpoint, Load, Token};
use super::endpoint_watch::EndpointWatch;
use super::health_score::Health;
use super::members::{Members, Plan};
use super::monotonic_millis;
use super::ready_set::ReadySet;
use crate::config::WhenAllUnhealthy;
use parking_lot::{Mutex, RwLock};
use pingora_load_balancing::Backend;
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// The state that the endpoint set of the next generation inherits.
#[derive(Default)]
pub(super) struct CarriedState {
    /// The members with their weights, reused when their addresses appear again.
    pub(super) members: Vec<Member>,
    /// Loads of removed endpoints that are still in use.
    pub(super) departed: HashMap<Address, Weak<Load>>,
    /// Whether startup was complete.
    pub(super) is_started: bool,
}

/// A removed endpoint that still has requests or WebSockets.
#[derive(Clone, Debug)]
pub(super) struct RemovedEndpoint {
    pub(super) token: Token,
    pub(super) address: String,
    pub(super) active: usize,
}

impl RemovedEndpoint {
    /// The loads that are still in use, ordered by address.
    pub(super) fn of(loads: &HashMap<Address, Weak<Load>>) -> Vec<Self> {
        let loads = loads.iter().filter_map(|(address, load)| Some((address, load.upgrade()?)));
        let departed = |(address, load): (&Address, Arc<Load>)| Self {
            token: load.token(),
            address: address.to_string(),
            active: load.active(),
        };
        let mut found: Vec<_> = loads.map(departed).filter(|departed| departed.active > 0).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }
}

/// The members of an upstream over time.
pub(super) struct EndpointSet {
    plan: Plan,
    // A lock instead of an ArcSwap: only `control` swaps generations. Held for one reference count.
    current: RwLock<Arc<Members>>,
    watch: Arc<EndpointWatch>,
    /// What may be selected, as it was when it was last needed. Held for one reference count.
    ready: RwLock<Arc<ReadySet>>,
    /// Held while it is determined anew: one thread does that, and the others wait for it.
    making_ready: Mutex<()>,
    /// Loads of removed endpoints that are still in use.
    departed: Mutex<HashMap<Address, Weak<Load>>>,
    /// Whether startup is complete: endpoints that join from then on are new.
    is_started: AtomicBool,
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
        let watch = EndpointWatch::new(plan.balance.orders_by_load());
        let members = Members::new(&plan, &watch, members, Vec::new());
        Self {
            plan,
            ready: RwLock::new(Arc::new(ReadySet::outdated(Arc::clone(&members)))),
            current: RwLock::new(members),
            watch,
            making_ready: Mutex::new(()),
            departed: Mutex::new(departed),
            is_started,
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
            if !self.ready().awaits_first_probe() {
                return;
            }
            changed.await;
        }
    }

    /// The members now.
    pub(super) fn current(&self) -> Arc<Members> {
        Arc::clone(&self.current.read())
    }

    /// What may be selected now.
    pub(super) fn ready(&self) -> Arc<ReadySet> {
        let ready = Arc::clone(&self.ready.read());
        if ready.is_valid(&self.watch) { ready } else { self.make_ready() }
    }

    fn make_ready(&self) -> Arc<ReadySet> {
        let _making = self.making_ready.lock();
        let ready = Arc::clone(&self.ready.read());
        if ready.is_valid(&self.watch) {
            return ready;
        }
        // Read before the members and their endpoints: what changes in between is seen, or makes it outdated.
        let version = self.watch.version();
        let ready = Arc::new(ReadySet::new(self.current(), &self.watch, version));
        let mut place = self.ready.write();
        // Members that were replaced meanwhile are not held.
        if ready.version() == Some(self.watch.version()) {
            *place = Arc::clone(&ready);
        }
        ready
    }

    /// Makes members the current ones.
    fn replace(&self, members: Arc<Members>) {
        *self.current.write() = Arc::clone(&members);
        self.watch.announce_change();
        // The former ones are not held until the next selection.
        *self.ready.write() = Arc::new(ReadySet::outdated(members));
    }

    /// The loads of removed endpoints that are still in use.
    pub(super) fn departed(&self) -> HashMap<Address, Weak<Load>> {
        self.departed.lock().clone()
    }

    /// The removed endpoints that are still in use.
    pub(super) fn removed_in_use(&self) -> Vec<RemovedEndpoint> {
        RemovedEndpoint::of(&self.departed.lock())
    }

    /// The loads of all present and removed endpoints that are still in use, for the removal of the upstream.
    pub(super) fn loads(&self) -> HashMap<Address, Weak<Load>> {
        let mut loads = self.departed();
        for member in self.current().as_slice() {
            let endpoint = member.endpoint();
            loads.insert(endpoint.address().clone(), Arc::downgrade(endpoint.load()));
        }
        loads
    }

    /// Installs a new membership. pingora-load-balancing calls it, never concurrently.
    pub(super) fn install(&self, backends: &BTreeSet<Backend>) -> Arc<Members> {
        // Held throughout, since members must not be replaced meanwhile.
        let mut departed = self.departed.lock();
        let before = self.current();
        let mut known: HashMap<&Address, &Member> =
            before.as_slice().iter().map(|member| (member.endpoint().address(), member)).collect();
        let mut members = Vec::with_capacity(backends.len());
        let mut member_backends = Vec::with_capacity(backends.len());
        for backend in backends {
            let Some(address) = Address::from_engine(&backend.addr) else { continue };
            // Discovery sets it on every backend.
            let Some(BackendEntry { settings, host }) = backend.ext.get::<BackendEntry>().cloned() else {
                continue;
            };
            let MemberSettings { weight, marked: is_marked, tier, limit } = settings;
            let marked_before = known.get(&address).and_then(|member| member.marked_since());
            let marked = is_marked.then(|| marked_before.unwrap_or_else(monotonic_millis::now));
            let endpoint = match known.remove(&address) {
                // A generation that may still be rejected must not change an endpoint of the serving one.
                Some(member) if member.endpoint().host() != host => member.endpoint().renamed(host),
                Some(member) => {
                    // The endpoint received no new requests for a while, so its caches are as empty as those
                    // of a new one.
                    if (member.weight() == 0 || marked_before.is_some()) && weight > 0 && !is_marked {
                        member.endpoint().join_time().begin(monotonic_millis::now());
                    }
                    Arc::clone(member.endpoint())
                }
                None => {
                    let load = departed.remove(&address).and_then(|load| load.upgrade());
                    let endpoint =
                        Endpoint::new(&self.plan.upstream, address, load, self.plan.initial_health);
                    endpoint.set_host(host);
                    self.adopt(endpoint)
                }
            };
            members.push(Member::new(endpoint, weight).marked(marked).in_tier(tier).limited(limit));
            member_backends.push(backend.clone());
        }
        for (address, member) in known {
            departed.insert(address.clone(), Arc::downgrade(member.endpoint().load()));
        }
        let members = Members::new(&self.plan, &self.watch, members, member_backends);
        self.replace(Arc::clone(&members));
        drop(before);
        self.changed.notify_waiters();
        departed.retain(|_, load| load.strong_count() > 0);
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
        let members = before.as_slice().iter().map(marked).collect();
        self.replace(Members::new(&self.plan, &self.watch, members, before.backends().to_vec()));
    }

    /// An endpoint that is no member, as one that a resolver has removed: a WebSocket of another process is there.
    pub(super) fn removed_endpoint(&self, address: Address) -> Arc<Endpoint> {
        let mut departed = self.departed.lock();
        let load = departed.get(&address).and_then(Weak::upgrade);
        let endpoint = Endpoint::new(&self.plan.upstream, address.clone(), load, self.plan.initial_health);
        departed.insert(address, Arc::downgrade(endpoint.load()));
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
