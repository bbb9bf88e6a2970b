//! The endpoints of an upstream over time.
//!
//! pingora-load-balancing rebuilds its selection from the endpoint set when the membership changes. An
//! endpoint lives as long as its identity is a member. The load of a removed endpoint is found again while a
//! lease holds it.

use super::address::Address;
use super::announced::{Announced, Identity};
use super::balance::{Member, RoundRobin};
use super::endpoint::{Endpoint, Load, Token};
use super::endpoint_watch::EndpointWatch;
use super::health_score::Health;
use super::members::{Members, Plan};
use super::monotonic_millis;
use super::ready_set::ReadySet;
use super::reconnects::Reconnects;
use crate::config::WhenAllUnhealthy;
use parking_lot::{Mutex, RwLock};
use pingora_load_balancing::Backend;
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// The state that the endpoint set of the next generation inherits.
#[derive(Default)]
pub(super) struct CarriedState {
    /// The members with their weights, reused when their identities appear again.
    pub(super) members: Vec<Member>,
    /// Removed endpoints that are still in use.
    pub(super) departed: Departed,
    /// The clients whose WebSockets drains have closed.
    pub(super) reconnects: Arc<Reconnects>,
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
    watch: Arc<EndpointWatch>,
    /// What may be selected, as it was when it was last needed. Held for one reference count.
    ready: RwLock<Arc<ReadySet>>,
    /// Held while it is determined anew: one thread does that, and the others wait for it.
    making_ready: Mutex<()>,
    /// Removed endpoints that are still in use.
    departed: Mutex<Departed>,
    /// The clients whose WebSockets drains have closed.
    reconnects: Arc<Reconnects>,
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
        let CarriedState { members, departed, reconnects, is_started } = carried.unwrap_or_default();
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
            reconnects,
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
        let ready = Arc::new(ReadySet::new(self.current(), &self.watch, &self.reconnects, version));
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

    /// The clients whose WebSockets drains have closed.
    pub(super) fn reconnects(&self) -> &Arc<Reconnects> {
        &self.reconnects
    }

    /// As [`Reconnects::begin`], at this moment.
    pub(super) fn begin_drain(
        &self,
        since: Option<u64>,
        window: Duration,
        websockets: usize,
    ) -> Arc<AtomicUsize> {
        let now = monotonic_millis::now();
        let closed = self.reconnects.begin(now, since.unwrap_or(now), window, websockets);
        // There are newcomers now.
        self.watch.announce_change();
        closed
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
            before.as_slice().iter().map(|member| (member.endpoint().address(), member)).collect();
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
                    let identity = Identity { address, uid: announced.uid.clone() };
                    let load = departed.remove(&identity).and_then(|departed| departed.load.upgrade());
                    let endpoint =
                        Endpoint::new(&self.plan.upstream, identity, load, self.plan.initial_health);
                    endpoint.set_host(host);
                    self.adopt(endpoint)
                }
            };
            members.push(Member::new(endpoint, announced).marked(marked));
            member_backends.push(backend.clone());
        }
        departed.extend(known.into_values().map(|member| member_departed(member, removal, now)));
        let members = Members::new(&self.plan, &self.watch, members, member_backends);
        self.replace(Arc::clone(&members));
        drop(before);
        self.changed.notify_waiters();
        departed.retain(|_, departed| !departed.is_unused());
        members
    }

    /// The configured drains of members have begun at these moments.
    pub(super) fn restore_marks(&self, moments: &HashMap<Token, u64>) {
        let _departed = self.departed.lock();
        let before = self.current();
        let marked = |member: &Member| {
            let moment = moments.get(&member.endpoint().token());
            let marked = member.marked_since().map(|since| moment.copied().unwrap_or(since));
            member.clone().marked(marked)
        };
        let members = before.as_slice().iter().map(marked).collect();
        self.replace(Members::new(&self.plan, &self.watch, members, before.backends().to_vec()));
    }

    /// An endpoint that is no member, as one that a resolver has removed: a WebSocket of another process is there.
    pub(super) fn removed_endpoint(&self, identity: Identity) -> Arc<Endpoint> {
        let mut departed = self.departed.lock();
        let load = departed.get(&identity).and_then(|departed| departed.load.upgrade());
        let endpoint = Endpoint::new(&self.plan.upstream, identity.clone(), load, self.plan.initial_health);
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
    let departed = DepartedEndpoint {
        load: Arc::downgrade(member.endpoint().load()),
        removal,
        deadline: announced.departure.and_then(|departure| departure.deadline),
        // It may have been draining already.
        since: member.draining_since().unwrap_or(now),
    };
    (member.endpoint().identity().clone(), departed)
}
