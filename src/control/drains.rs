//! Which WebSockets should come again, whatever the cause, and seeing to it that they are asked.
//!
//! Every look reckons anew what should be: no WebSocket of this route at that endpoint, because it
//! leaves; none of an edition of that route that is gone. What is missing from it is begun, what is no
//! longer wanted is called off, and those who were not asked yet stay. So an endpoint that comes back, a
//! reload that is taken back and an operator who changes his mind need nothing of their own. The pace of
//! asking is the registry's.

use super::Live;
use super::rebalance::Rebalances;
use crate::config::{self, Stay};
use crate::snapshot::Snapshot;
use crate::tunnel::{Cause, Filter, Policy, Registry, TunnelView};
use crate::upstream::{DrainingEndpoint, Leaving};
use log::info;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often endpoints are looked at. Reloads and operators are not waited for so long: they tell.
const LOOK: Duration = Duration::from_secs(1);

/// How often WebSockets are counted again while something is to be left: that costs a walk over all.
const RECOUNT: Duration = Duration::from_secs(5);

/// A handshake that was under way at a change may become a WebSocket so much later.
const AFTERMATH: Duration = Duration::from_secs(60);

/// Keeps at it for as long as the configuration lives.
pub(super) async fn keep(live: Weak<Live>) {
    let Some((tunnels, changed)) =
        live.upgrade().map(|live| (Arc::clone(&live.tunnels), Arc::clone(&live.changed)))
    else {
        return;
    };
    let mut drains = Drains::new(Arc::clone(&tunnels));
    let mut rebalances = Rebalances::new(tunnels);
    loop {
        {
            let Some(live) = live.upgrade() else { return };
            // The number first: a generation that is newer than its number is looked at once more.
            let generation = live.generation();
            let snapshot = live.pin();
            drains.look(&snapshot, generation);
            rebalances.look(&snapshot);
        }
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Those who are asked together, over one window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Group {
    /// Those of a route at an endpoint.
    At(u64, Arc<str>),
    /// Those of former editions of a route.
    Former(Arc<str>),
}

impl Group {
    fn route(&self) -> &Arc<str> {
        match self {
            Self::At(_, route) | Self::Former(route) => route,
        }
    }
}

/// A drain under way. It ends with this.
struct Drain {
    cause: Cause,
    window: Duration,
    task: JoinHandle<usize>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Drains {
    tunnels: Arc<Registry>,
    /// The last policy of every route that is there or still has WebSockets.
    policies: HashMap<Arc<str>, Arc<Policy>>,
    /// The generation that the policies are of.
    generation: u64,
    /// Who should be left, as it was last seen.
    leaving: HashMap<u64, DrainingEndpoint>,
    under_way: HashMap<Group, Drain>,
    recount: Instant,
    /// Until then there may be late comers.
    aftermath: Instant,
}

impl Drains {
    fn new(tunnels: Arc<Registry>) -> Self {
        let now = Instant::now();
        Self {
            tunnels,
            policies: HashMap::new(),
            generation: 0,
            leaving: HashMap::new(),
            under_way: HashMap::new(),
            recount: now,
            aftermath: now,
        }
    }

    /// Looks whether anything changed, and does what follows from it.
    fn look(&mut self, snapshot: &Snapshot, generation: u64) {
        let now = Instant::now();
        self.under_way.retain(|_, drain| !drain.task.is_finished());
        let reloaded = generation != self.generation;
        if reloaded {
            self.learn(snapshot);
            self.generation = generation;
        }
        let leaving = leaving(snapshot);
        let changed = reloaded || leaving != self.leaving;
        self.leaving = leaving;
        if changed {
            self.aftermath = now + AFTERMATH;
        }
        let busy = !self.leaving.is_empty() || !self.under_way.is_empty() || now < self.aftermath;
        if changed || (busy && now >= self.recount) {
            self.recount = now + RECOUNT;
            self.reconcile(snapshot);
        }
    }

    /// Takes over the policies of a new generation. A route that is gone keeps its last one for as long
    /// as it has WebSockets.
    fn learn(&mut self, snapshot: &Snapshot) {
        if self.policies.keys().any(|name| snapshot.route(name).is_none()) {
            let inhabited = self.tunnels.tally(|seen| Some(Arc::clone(seen.route)));
            self.policies.retain(|name, _| inhabited.contains_key(name));
        }
        for route in snapshot.table.targets() {
            self.policies.insert(Arc::clone(&route.name), Arc::clone(&route.policy));
        }
    }

    fn reconcile(&mut self, snapshot: &Snapshot) {
        let wanted = self.tunnels.tally(|seen| self.group(snapshot, seen));
        // A reload that changes the window has it hold for WebSockets as it does for the requests of their sessions.
        let now: HashMap<_, _> = wanted
            .keys()
            .map(|group| (group.clone(), (self.cause(group), self.window(group.route()))))
            .collect();
        self.under_way.retain(|group, drain| now.get(group) == Some(&(drain.cause, drain.window)));
        for (group, websockets) in wanted {
            if !self.under_way.contains_key(&group) {
                let drain = self.begin(snapshot, &group, websockets);
                self.under_way.insert(group, drain);
            }
        }
    }

    /// With whom a WebSocket is to be asked to come again; `None` when it may stay.
    fn group(&self, snapshot: &Snapshot, seen: TunnelView<'_>) -> Option<Group> {
        let policy = |choose: fn(&Policy) -> Stay| self.policies.get(seen.route).map(|policy| choose(policy));
        let leaves = self.leaving.get(&seen.endpoint).is_some_and(|leaver| match leaver.why {
            Leaving::Marked | Leaving::Operator => true,
            // A reload ends no connection unless the route says so, and neither does an answer of the
            // resolver that leaves an address out for a while.
            Leaving::Removed => policy(|policy| policy.on_reload) == Some(Stay::Drain),
            Leaving::Unhealthy => policy(|policy| policy.on_unhealthy) == Some(Stay::Drain),
        });
        if leaves {
            return Some(Group::At(seen.endpoint, Arc::clone(seen.route)));
        }
        let former = snapshot.route(seen.route).map(|route| route.edition()) != Some(seen.edition);
        let former = former && policy(|policy| policy.on_reload) == Some(Stay::Drain);
        former.then(|| Group::Former(Arc::clone(seen.route)))
    }

    fn cause(&self, group: &Group) -> Cause {
        let Group::At(endpoint, _) = group else { return Cause::Route };
        match self.leaving.get(endpoint).map(|leaver| leaver.why) {
            Some(Leaving::Operator) => Cause::Operator,
            Some(Leaving::Unhealthy) => Cause::Unhealthy,
            Some(Leaving::Removed | Leaving::Marked) | None => Cause::Endpoint,
        }
    }

    fn window(&self, route: &Arc<str>) -> Duration {
        self.policies.get(route).map_or(config::WebSocket::default().drain_window.0, |policy| policy.drain)
    }

    fn begin(&self, snapshot: &Snapshot, group: &Group, websockets: usize) -> Drain {
        let mut since = Instant::now();
        let (route, filter, (upstream, endpoint)) = match group {
            Group::At(endpoint, route) => {
                let leaver = self.leaving.get(endpoint);
                // From then on its sessions leave: those of requests as those of WebSockets.
                let draining = leaver.and_then(DrainingEndpoint::draining_for);
                since = draining.and_then(|draining| since.checked_sub(draining)).unwrap_or(since);
                let named = leaver.map(|leaver| (&*leaver.upstream, &*leaver.endpoint));
                (route, Filter::RouteAt(Arc::clone(route), *endpoint), named.unwrap_or_default())
            }
            Group::Former(route) => {
                // No edition has the number 0: of a route that is gone all are former ones.
                let current = snapshot.route(route).map_or(0, |route| route.edition());
                (route, Filter::Outdated(Arc::clone(route), current), ("", ""))
            }
        };
        let cause = self.cause(group);
        let window = self.window(route);
        info!(
            route = &**route, upstream, endpoint, cause:? = cause, websockets, window:? = window;
            "asking WebSockets to come again"
        );
        Drain { cause, window, task: tokio::spawn(self.tunnels.drain(filter, window, cause, Some(since))) }
    }
}

fn leaving(snapshot: &Snapshot) -> HashMap<u64, DrainingEndpoint> {
    let leavers = snapshot.clusters().flat_map(|cluster| cluster.leaving());
    leavers.map(|leaver| (leaver.token.get(), leaver)).collect()
}

#[cfg(test)]
mod tests;
