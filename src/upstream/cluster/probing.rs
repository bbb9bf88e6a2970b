//! Probes of the endpoints. Each endpoint has a schedule of its own, so that the probes are spread over the interval and
//! a new endpoint alone is probed at once. pingora-load-balancing's runner would probe all of them in one round.

use super::Cluster;
use crate::upstream::endpoint::Token;
use crate::upstream::health::Check;
use crate::upstream::members::Members;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The most probes of an upstream at the same time.
const MOST_PROBES: usize = 256;

/// When each endpoint is probed next.
#[derive(Default)]
struct ProbePlan {
    /// The membership that the plan is for.
    members: Option<u64>,
    due: BTreeMap<(Instant, Token), DueProbe>,
    /// The members; `true` for one whose first probe has not ended.
    known: HashMap<Token, bool>,
}

struct DueProbe {
    backend: Backend,
    /// From this probe to the next one, if it is not a whole interval: the first probes come together.
    phase: Option<Duration>,
}

impl ProbePlan {
    /// Plans for these members: new ones are due now, and those that are no members any more are not probed.
    fn take(&mut self, version: u64, members: &Members, interval: Duration, now: Instant) {
        self.members = Some(version);
        let tokens: HashSet<Token> =
            members.as_slice().iter().map(|member| member.endpoint().token()).collect();
        self.known.retain(|token, _| tokens.contains(token));
        self.due.retain(|(_, token), _| tokens.contains(token));
        let known = |index: &usize| self.known.contains_key(&members.as_slice()[*index].endpoint().token());
        let new: Vec<usize> = (0..members.as_slice().len()).filter(|index| !known(index)).collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
        for (index, place) in new.into_iter().zip(1_u32..) {
            let token = members.as_slice()[index].endpoint().token();
            let Some(backend) = members.backends().get(index).cloned() else { continue };
            self.known.insert(token, true);
            let phase = Some(interval.mul_f64(f64::from(place) / f64::from(count)));
            self.due.insert((now, token), DueProbe { backend, phase });
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<((Instant, Token), DueProbe)> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove_entry())
    }

    /// A probe has ended; the next one follows after `pause`, counted from the moment that this one was due.
    fn end(&mut self, (due, token): (Instant, Token), probe: DueProbe, pause: Duration) {
        let Some(is_unprobed) = self.known.get_mut(&token) else { return };
        *is_unprobed = false;
        let next = due + probe.phase.unwrap_or(pause);
        self.due.insert((next.max(Instant::now()), token), DueProbe { phase: None, ..probe });
    }

    fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    fn is_complete(&self) -> bool {
        !self.known.values().any(|is_unprobed| *is_unprobed)
    }
}

impl Cluster {
    /// Probes until dropped.
    pub(super) async fn keep_probing(&self) {
        let (Some(check), Some(schedule)) = (&self.check, self.schedule) else { return };
        let mut plan = ProbePlan::default();
        let mut running = FuturesUnordered::new();
        loop {
            let members = self.members.load(Relaxed);
            if plan.members != Some(members) {
                plan.take(members, &self.endpoint_set.current(), schedule.interval, Instant::now());
            }
            while running.len() < MOST_PROBES
                && let Some((due, probe)) = plan.pop_due(Instant::now())
            {
                running.push(async move {
                    check_once(check, &probe.backend).await;
                    (due, probe)
                });
            }
            if plan.is_complete() {
                self.probed.send_if_modified(|probed| probed.replace(members) != Some(members));
            }
            let next = plan.next().filter(|_| running.len() < MOST_PROBES);
            tokio::select! {
                Some((due, probe)) = running.next() => plan.end(due, probe, schedule.pause()),
                () = moment(next) => {}
                () = self.new_endpoints.notified() => {}
            }
        }
    }
}

/// Waits for a moment; without one for ever.
async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One probe. A panic is that of one endpoint.
async fn check_once(check: &Check, backend: &Backend) {
    let probe = AssertUnwindSafe(check.check(backend)).catch_unwind();
    if probe.await.is_err() {
        log::error!(endpoint:% = backend.addr; "health check panicked");
    }
}
