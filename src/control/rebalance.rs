//! Rebalancing of WebSockets after a scale-out: an endpoint above its share slowly closes some with 1012. Off
//! by default.
//!
//! A round closes as many WebSockets as are above the share, once. Before the next round, as many new
//! WebSockets must have arrived as were closed, from any client. Slow clients therefore cause no further
//! closes, and an upstream without new connections is not rebalanced.

use crate::config;
use crate::snapshot::Snapshot;
use crate::tunnel::{Cause, Filter, Registry};
use crate::upstream::{Cluster, Leaving};
use log::info;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The minimum and maximum interval of counts; between them it is a part of the window.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);

/// A smaller surplus is random and does not justify a reconnect.
const FEW: usize = 5;

/// After this many windows, closed WebSockets that did not reconnect are no longer expected.
const PATIENCE: u32 = 10;

/// The rounds of all upstreams.
pub(super) struct Rebalances {
    tunnels: Arc<Registry>,
    rounds: HashMap<Arc<str>, Round>,
    next: Instant,
}

/// A round of one upstream: first it closes WebSockets, then it waits for new ones.
struct Round {
    /// WebSockets with this number or a higher one arrived after the round began.
    mark: u64,
    asked: Arc<AtomicUsize>,
    /// By endpoint.
    asking: HashMap<u64, RebalanceTask>,
    timeouts: Instant,
}

/// An endpoint's part of a round, aborted on drop.
struct RebalanceTask(JoinHandle<()>);

impl Drop for RebalanceTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An endpoint that takes part.
#[derive(Clone, Copy, Debug)]
struct OverloadedEndpoint {
    endpoint: u64,
    /// 0 for a backup while an endpoint that is none accepts connections.
    weight: u16,
    limit: Option<NonZeroU32>,
    websockets: usize,
}

impl OverloadedEndpoint {
    fn capacity(&self) -> f64 {
        self.limit.map_or(f64::INFINITY, |limit| f64::from(limit.get()))
    }
}

impl Rebalances {
    pub(super) fn new(tunnels: Arc<Registry>) -> Self {
        Self { tunnels, rounds: HashMap::new(), next: Instant::now() }
    }

    /// Checks whether a round is due, and closes the surplus.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        let settings = |cluster: &Arc<Cluster>| Some(cluster.spec().rebalance.as_ref()?.value.window.0);
        let Some(shortest) = snapshot.clusters().filter_map(settings).min() else {
            self.rounds.clear();
            return;
        };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + (shortest / 10).clamp(OFTEN, SELDOM);
        let clusters: Vec<_> =
            snapshot.clusters().filter(|cluster| cluster.spec().rebalance.is_some()).collect();
        self.rounds.retain(|name, _| clusters.iter().any(|cluster| cluster.name() == name));
        self.count_and_ask(&clusters, now);
    }

    fn count_and_ask(&mut self, clusters: &[&Arc<Cluster>], now: Instant) {
        let takers: Vec<_> = clusters.iter().map(|cluster| cluster.accepting()).collect();
        let mut marks = HashMap::new();
        for (cluster, takers) in clusters.iter().zip(&takers) {
            let mark = self.rounds.get(cluster.name()).map_or(u64::MAX, |round| round.mark);
            marks.extend(takers.iter().map(|taker| (taker.token.get(), mark)));
        }
        let counts =
            self.tunnels.tally(|seen| Some((seen.endpoint, seen.join_number >= *marks.get(&seen.endpoint)?)));
        for (cluster, takers) in clusters.iter().zip(&takers) {
            let count = |endpoint, arrived| counts.get(&(endpoint, arrived)).copied().unwrap_or_default();
            let mut arrived = 0;
            let holders: Vec<_> = takers
                .iter()
                .map(|taker| {
                    let endpoint = taker.token.get();
                    let new = count(endpoint, true);
                    arrived += new;
                    let websockets = count(endpoint, false) + new;
                    let (weight, limit) = (taker.weight, taker.limit);
                    OverloadedEndpoint { endpoint, weight, limit, websockets }
                })
                .collect();
            if let Some(settings) = &cluster.spec().rebalance {
                self.advance(cluster, settings, &holders, arrived, now);
            }
        }
    }

    /// Continues the upstream's round, or starts one.
    fn advance(
        &mut self,
        cluster: &Cluster,
        settings: &config::Rebalance,
        holders: &[OverloadedEndpoint],
        arrived: usize,
        now: Instant,
    ) {
        if let Some(round) = self.rounds.get_mut(cluster.name()) {
            let missing = round.asked.load(Relaxed).saturating_sub(arrived);
            round.asking.retain(|endpoint, asking| {
                // WebSockets may have ended for other reasons: no endpoint goes below its share.
                !asking.0.is_finished() && surplus(holders, *endpoint, missing).is_some_and(|above| above > 0)
            });
            if !round.asking.is_empty() || (missing > 0 && now < round.timeouts) {
                return;
            }
        }
        self.rounds.remove(cluster.name());
        // WebSockets of a draining endpoint move already.
        if cluster.leaving().iter().any(|draining_endpoint| draining_endpoint.why != Leaving::Unhealthy) {
            return;
        }
        let overloaded = overloaded(holders, *settings.threshold);
        if !overloaded.is_empty() {
            let round = self.begin(cluster, settings.window.0, &overloaded, now);
            self.rounds.insert(Arc::clone(cluster.name()), round);
        }
    }

    fn begin(&self, cluster: &Cluster, window: Duration, overloaded: &[(u64, usize)], now: Instant) -> Round {
        let websockets: usize = overloaded.iter().map(|(_, surplus)| surplus).sum();
        info!(
            upstream = &**cluster.name(), endpoints = overloaded.len(), websockets, window:? = window;
            "WebSocket rebalance started"
        );
        let asked = Arc::<AtomicUsize>::default();
        let mark = self.tunnels.arrivals();
        let ask = |(endpoint, surplus): &(u64, usize)| {
            let filter = Filter::Endpoint(*endpoint);
            let thinning =
                self.tunnels.drain_some(filter, *surplus, window, Cause::Rebalance, Arc::clone(&asked));
            (*endpoint, RebalanceTask(tokio::spawn(thinning)))
        };
        let asking = overloaded.iter().map(ask).collect();
        Round { mark, asked, asking, timeouts: now + window * (PATIENCE + 1) }
    }
}

/// The number of WebSockets that an endpoint holds above its share, if `expected` more will arrive; `None` if
/// it no longer takes part.
fn surplus(holders: &[OverloadedEndpoint], endpoint: u64, expected: usize) -> Option<usize> {
    let holder = holders.iter().find(|holder| holder.endpoint == endpoint)?;
    let share = share(holders, holder, expected);
    Some((holder.websockets as f64 - share).max(0.0) as usize)
}

/// An endpoint's share of all WebSockets: that of its weight, at most its limit. The others share the rest. It is
/// unbounded if all are limited and cannot hold the WebSockets together: a closed one would find no other place.
fn share(holders: &[OverloadedEndpoint], of: &OverloadedEndpoint, expected: usize) -> f64 {
    let all = holders.iter().map(|holder| holder.websockets).sum::<usize>() + expected;
    // WebSockets per weight. It grows with every endpoint that turns out to be limited, so the loop ends.
    let mut level = 0.0;
    loop {
        let (mut rest, mut weights) = (all as f64, 0.0);
        for holder in holders {
            match f64::from(holder.weight) {
                weight if weight * level > holder.capacity() => rest -= holder.capacity(),
                weight => weights += weight,
            }
        }
        if weights == 0.0 {
            return f64::INFINITY;
        }
        if rest / weights <= level {
            return (f64::from(of.weight) * level).min(of.capacity());
        }
        level = rest / weights;
    }
}

/// The endpoints with more than `when` times their share, each with its surplus.
fn overloaded(holders: &[OverloadedEndpoint], when: f64) -> Vec<(u64, usize)> {
    let above = |holder: &OverloadedEndpoint| {
        let surplus = surplus(holders, holder.endpoint, 0)?;
        let heavy = holder.websockets as f64 > when * share(holders, holder, 0);
        (heavy && surplus >= FEW).then_some((holder.endpoint, surplus))
    };
    holders.iter().filter_map(above).collect()
}

#[cfg(test)]
mod tests;
