//! WebSocket drains: selects the WebSockets to close with 1012, for any cause.
//!
//! Every check computes the desired state anew: no WebSocket of a route at a draining endpoint, and none of
//! an obsolete version of a route. Missing drains are started, unwanted ones are aborted, and the remaining
//! WebSockets stay. A recovered endpoint, a reverted reload and a changed order therefore need no special
//! case. The tunnel registry paces the closing.

use super::Live;
use super::drain_progress::EndpointDrain;
use super::rebalance::Rebalances;
use crate::config::{self, ExistingTunnels, OnRemoval};
use crate::snapshot::Snapshot;
use crate::telemetry::unix_millis;
use crate::tunnel::{Cause, Filter, Policy, Registry, TunnelView};
use crate::upstream::{DrainingEndpoint, Leaving};
use log::info;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The interval of checks. Reloads and orders trigger a check at once.
const LOOK: Duration = Duration::from_secs(1);

/// The interval of recounts during a drain, since each iterates over all WebSockets.
const RECOUNT: Duration = Duration::from_secs(5);

/// The time before the end of an endpoint by which its WebSockets have been closed.
const MARGIN: Duration = Duration::from_secs(2);

/// A handshake in progress during a change may open a WebSocket up to this much later.
const AFTERMATH: Duration = Duration::from_secs(60);

/// Runs while the configuration is in use.
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
            // The number is read first: a generation newer than its number is checked once more.
            let generation = live.generation();
            let snapshot = live.pin();
            drains.look(&snapshot, generation);
            live.drains.replace(drains.progress());
            rebalances.look(&snapshot);
        }
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// WebSockets that are drained together over one window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Group {
    /// Those of a route at an endpoint.
    At(u64, Arc<str>),
    /// Those of obsolete versions of a route.
    Former(Arc<str>),
    /// Those of a route whose clients connected to a removed listener.
    From(Arc<str>, Arc<str>),
}

impl Group {
    fn is_of_reload(&self) -> bool {
        matches!(self, Self::Former(_) | Self::From(..))
    }

    fn route(&self) -> &Arc<str> {
        match self {
            Self::At(_, route) | Self::Former(route) | Self::From(route, _) => route,
        }
    }
}

/// What a drain follows: another one is another drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DrainKey {
    cause: Cause,
    /// The window of the route.
    window: Duration,
    /// The end of the endpoint.
    deadline: Option<u64>,
}

/// A drain in progress, aborted on drop.
struct Drain {
    key: DrainKey,
    window: Duration,
    /// The end of the window, for a drain of one endpoint.
    ends: Instant,
    started: u64,
    websockets: usize,
    task: JoinHandle<()>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Drains {
    tunnels: Arc<Registry>,
    /// The last policy of every route that exists or still has WebSockets.
    policies: HashMap<Arc<str>, Arc<Policy>>,
    /// The generation of the policies.
    generation: u64,
    /// The draining endpoints of the last check.
    leaving: HashMap<u64, DrainingEndpoint>,
    under_way: HashMap<Group, Drain>,
    recount: Instant,
    /// Until then, handshakes of earlier generations may open WebSockets.
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

    /// Checks for changes and applies them.
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
        if leaving != self.leaving {
            // An unhealthy endpoint may be back in a moment.
            let known = leaving.values().filter(|endpoint| endpoint.why != Leaving::Unhealthy);
            self.tunnels.set_leaving(known.map(|endpoint| endpoint.token.get()).collect());
        }
        self.leaving = leaving;
        if reloaded {
            self.aftermath = now + AFTERMATH;
        }
        let busy = !self.leaving.is_empty() || !self.under_way.is_empty() || now < self.aftermath;
        // Their drains begin at a moment of their own.
        let waits = self.leaving.values().any(|endpoint| endpoint.is_last && endpoint.deadline.is_some());
        if changed || waits || (busy && now >= self.recount) {
            self.recount = now + RECOUNT;
            // Without a reload the WebSockets of draining endpoints alone are looked at.
            let is_whole = now < self.aftermath || self.under_way.keys().any(Group::is_of_reload);
            self.reconcile(snapshot, is_whole);
        }
    }

    /// Stores the policies of a new generation. A removed route keeps its last policy while it has
    /// WebSockets.
    fn learn(&mut self, snapshot: &Snapshot) {
        if self.policies.keys().any(|name| snapshot.route(name).is_none()) {
            let inhabited = self.tunnels.tally(|seen| Some(Arc::clone(seen.route)));
            self.policies.retain(|name, _| inhabited.contains_key(name));
        }
        for route in snapshot.table.targets() {
            self.policies.insert(Arc::clone(&route.name), Arc::clone(&route.policy));
        }
    }

    fn reconcile(&mut self, snapshot: &Snapshot, is_whole: bool) {
        let group = |seen: TunnelView<'_>| self.group(snapshot, seen);
        let wanted = match is_whole {
            true => self.tunnels.tally(group),
            false => self.tunnels.tally_at(self.leaving.keys().copied(), group),
        };
        // A changed window applies to WebSockets as it does to the requests of their sessions.
        let now: HashMap<_, _> = wanted.keys().map(|group| (group.clone(), self.key(group))).collect();
        self.under_way.retain(|group, drain| now.get(group) == Some(&drain.key));
        for (group, websockets) in wanted {
            if !self.under_way.contains_key(&group) {
                let drain = self.begin(snapshot, &group, websockets);
                self.under_way.insert(group, drain);
            }
        }
    }

    /// The group that a WebSocket is drained with; `None` if it may stay.
    fn group(&self, snapshot: &Snapshot, seen: TunnelView<'_>) -> Option<Group> {
        let policy = |choose: fn(&Policy) -> ExistingTunnels| {
            self.policies.get(seen.route).map(|policy| choose(policy))
        };
        let leaves =
            self.leaving.get(&seen.endpoint).is_some_and(|draining_endpoint| match draining_endpoint.why {
                Leaving::Marked | Leaving::Operator => true,
                Leaving::Absent | Leaving::Announced => self.is_due(draining_endpoint, seen.route),
                // A reload closes no connection unless the route demands it.
                Leaving::Removed => policy(|policy| policy.on_reload) == Some(ExistingTunnels::Drain),
                Leaving::Unhealthy => policy(|policy| policy.on_unhealthy) == Some(ExistingTunnels::Drain),
            });
        if leaves {
            return Some(Group::At(seen.endpoint, Arc::clone(seen.route)));
        }
        let former =
            snapshot.route(seen.route).map(|route| route.route_version()) != Some(seen.route_version);
        let is_removed = snapshot.listener(seen.listener).is_none();
        if !(former || is_removed) || policy(|policy| policy.on_reload) != Some(ExistingTunnels::Drain) {
            return None;
        }
        Some(match former {
            true => Group::Former(Arc::clone(seen.route)),
            false => Group::From(Arc::clone(seen.route), Arc::clone(seen.listener)),
        })
    }

    fn key(&self, group: &Group) -> DrainKey {
        let deadline = match group {
            Group::At(endpoint, _) => self.leaving.get(endpoint).and_then(|endpoint| endpoint.deadline),
            Group::Former(_) | Group::From(..) => None,
        };
        DrainKey { cause: self.cause(group), window: self.window(group.route()), deadline }
    }

    fn cause(&self, group: &Group) -> Cause {
        let endpoint = match group {
            Group::At(endpoint, _) => endpoint,
            Group::Former(_) => return Cause::Route,
            Group::From(..) => return Cause::Listener,
        };
        match self.leaving.get(endpoint).map(|draining_endpoint| draining_endpoint.why) {
            Some(Leaving::Operator) => Cause::Operator,
            Some(Leaving::Unhealthy) => Cause::Unhealthy,
            Some(Leaving::Removed | Leaving::Absent | Leaving::Announced | Leaving::Marked) | None => {
                Cause::Endpoint
            }
        }
    }

    /// Whether the WebSockets of an endpoint leave it that its source removed or announces to leave. If no other endpoint
    /// can serve, they stay, at the latest until the window before its end begins.
    fn is_due(&self, endpoint: &DrainingEndpoint, route: &Arc<str>) -> bool {
        match endpoint.on_removal {
            OnRemoval::Keep => false,
            _ if !endpoint.is_last => true,
            OnRemoval::Drain | OnRemoval::Close => {
                let latest = self.window(route).saturating_add(MARGIN);
                endpoint.time_left().is_some_and(|left| left <= latest)
            }
        }
    }

    /// The window of a drain: that of its route, or less if the endpoint ends before.
    fn window_of(&self, group: &Group) -> Duration {
        let window = self.window(group.route());
        let Group::At(endpoint, _) = group else { return window };
        let Some(endpoint) = self.leaving.get(endpoint) else { return window };
        match (endpoint.why, endpoint.on_removal) {
            (Leaving::Absent | Leaving::Announced, OnRemoval::Close) => Duration::ZERO,
            (Leaving::Absent | Leaving::Announced, _) => match endpoint.time_left() {
                Some(left) => window.min(left.saturating_sub(MARGIN)),
                None => window,
            },
            _ => window,
        }
    }

    fn window(&self, route: &Arc<str>) -> Duration {
        self.policies.get(route).map_or(config::WebSocket::default().drain_window.0, |policy| policy.drain)
    }

    fn begin(&self, snapshot: &Snapshot, group: &Group, websockets: usize) -> Drain {
        let mut since = Instant::now();
        let (cause, window) = (self.cause(group), self.window_of(group));
        let mut asked = Arc::default();
        let (route, filter, (upstream, endpoint)) = match group {
            Group::At(endpoint, route) => {
                let draining_endpoint = self.leaving.get(endpoint);
                // Sessions leave from then on, for requests and WebSockets alike.
                let draining = draining_endpoint.and_then(DrainingEndpoint::draining_for);
                since = draining.and_then(|draining| since.checked_sub(draining)).unwrap_or(since);
                let cluster = draining_endpoint.and_then(|draining| snapshot.cluster(&draining.upstream));
                if let (Some(cluster), Some(draining)) = (cluster, draining_endpoint) {
                    asked = cluster.begin_drain(draining, window, websockets);
                }
                let named = draining_endpoint
                    .map(|draining_endpoint| (&*draining_endpoint.upstream, &*draining_endpoint.endpoint));
                (route, Filter::RouteAt(Arc::clone(route), *endpoint), named.unwrap_or_default())
            }
            Group::Former(route) => {
                // No version has number 0, so all versions of a removed route are obsolete.
                let current = snapshot.route(route).map_or(0, |route| route.route_version());
                (route, Filter::Outdated(Arc::clone(route), current), ("", ""))
            }
            Group::From(route, listener) => {
                (route, Filter::RouteFrom(Arc::clone(route), Arc::clone(listener)), ("", ""))
            }
        };
        info!(
            route = &**route, upstream, endpoint, cause:? = cause, websockets, window:? = window;
            "WebSocket drain started"
        );
        Drain {
            key: self.key(group),
            window,
            ends: Instant::now() + window,
            started: unix_millis(),
            websockets,
            task: tokio::spawn(self.tunnels.drain_counting(filter, window, cause, Some(since), asked)),
        }
    }

    /// The drains of endpoints in progress.
    fn progress(&self) -> Vec<EndpointDrain> {
        let of_endpoint = |(group, drain): (&Group, &Drain)| match group {
            Group::At(endpoint, _) => Some(EndpointDrain {
                endpoint: *endpoint,
                started: drain.started,
                window: drain.window,
                websockets: drain.websockets,
                ends: drain.ends,
            }),
            Group::Former(_) | Group::From(..) => None,
        };
        self.under_way.iter().filter_map(of_endpoint).collect()
    }
}

fn leaving(snapshot: &Snapshot) -> HashMap<u64, DrainingEndpoint> {
    let leavers = snapshot.clusters().flat_map(|cluster| cluster.leaving());
    leavers.map(|draining_endpoint| (draining_endpoint.token.get(), draining_endpoint)).collect()
}

#[cfg(test)]
mod tests;
