//! One upstream at work: its engine, its endpoints and the choice among them.
//!
//! Building one is pure (`build`); what it does in the background is one future (`run`).

mod build;
mod leaving;
mod run;
mod status;
#[cfg(test)]
mod tests;

pub use leaving::{Leaver, Leaving, Order};
pub use status::{ClusterStatus, EndpointStatus};

use super::clock;
use super::discovery::Source;
use super::endpoint::Endpoint;
use super::health::Rhythm;
use super::key::{Key, KeySource, RequestView};
use super::lease::{Lease, NoEndpoint, Tried};
use super::passive::Policy;
use super::reach::Reach;
use super::roster::{Members, Roster};
use super::selection::Selection;
use crate::spec;
use crate::telemetry::metrics::UpstreamMetrics;
use http::HeaderValue;
use moongate_sdk::Problem;
use pingora_load_balancing::LoadBalancer;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{Notify, watch};

/// Milliseconds between two warnings that an upstream has nobody healthy left.
const PANIC_LOG_EVERY: u64 = 10_000;

/// One upstream at work.
///
/// Built anew when its settings change, and the same instance while they do not.
pub struct Cluster {
    name: Arc<str>,
    spec: spec::Upstream,
    key: KeySource,
    policy: Policy,
    reach: Arc<Reach>,
    roster: Arc<Roster>,
    source: Arc<Source>,
    engine: LoadBalancer<Selection>,
    rhythm: Option<Rhythm>,
    advice: Vec<Problem>,
    metrics: Arc<UpstreamMetrics>,
    panics: AtomicU64,
    /// When the last warning about panic was written; 0 is never.
    warned: AtomicU64,
    resolve_failures: AtomicU64,
    /// Whether the first round of probes and lookups is done.
    first_round: watch::Sender<bool>,
    /// Somebody new is there and should be probed before the next round is due.
    newcomers: Notify,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings: timeouts and retries are the proxy's to honour.
    pub fn spec(&self) -> &spec::Upstream {
        &self.spec
    }

    /// How its endpoints are reached.
    pub fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// What an operator should know about its settings, though they are taken.
    pub fn advice(&self) -> &[Problem] {
        &self.advice
    }

    /// What of a request [`Cluster::pick`] needs. Borrows; costs nothing when the balance needs nothing.
    pub fn key<'a>(&self, request: &RequestView<'a>) -> Key<'a> {
        self.key.read(request)
    }

    /// Chooses an endpoint for one try of one request, and counts it there from now on.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, key: &Key<'_>, tried: &Tried) -> Result<Lease, NoEndpoint> {
        let members = self.roster.current();
        let found = Cell::new(None);
        // Our turns end by themselves, so the engine needs no bound. Its own idea of health is not
        // asked: who is out was never a candidate. One that just left has no seat: refused as well.
        let accept = |backend: &pingora_load_balancing::Backend, _: bool| {
            let endpoint = members.find(&backend.addr).map(super::balance::Member::endpoint);
            let endpoint = endpoint.filter(|endpoint| !tried.contains(endpoint));
            found.set(endpoint);
            endpoint.is_some()
        };
        self.engine.select_with(key.as_bytes(), usize::MAX, accept);
        let Some(endpoint) = found.get() else { return Err(why_nobody(&members, tried)) };
        if !endpoint.is_usable() {
            self.panic();
        }
        Ok(Lease::new(Arc::clone(endpoint), self.policy))
    }

    /// The `Set-Cookie` for the answer of a lease's endpoint; none unless the balance is `sticky`
    /// and the request's key is not already this endpoint's cookie.
    pub fn sticky_cookie(&self, lease: &Lease, key: &Key<'_>) -> Option<HeaderValue> {
        if !matches!(self.key, KeySource::Cookie(_)) {
            return None;
        }
        let members = self.roster.current();
        let index = members.index_of(lease.endpoint().token())?;
        members.balance().set_cookie(index, key.as_bytes())
    }

    /// The endpoints now, in the order of their addresses.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.roster.current().seats().iter().map(|member| Arc::clone(member.endpoint())).collect()
    }

    /// How often an endpoint was chosen because nobody was healthy.
    pub fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// How often a host name could not be resolved.
    pub fn resolve_failures(&self) -> u64 {
        self.resolve_failures.load(Relaxed)
    }

    fn panic(&self) {
        self.panics.fetch_add(1, Relaxed);
        self.metrics.panicked();
        let now = clock::now();
        let last = self.warned.load(Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= PANIC_LOG_EVERY;
        // Of many threads that find it due one writes the line.
        if due && self.warned.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            log::warn!(upstream = &*self.name, panics = self.panics(); "no endpoint is healthy; choosing among all");
        }
    }
}

fn why_nobody(members: &Members, tried: &Tried) -> NoEndpoint {
    if members.is_empty() {
        NoEndpoint::Empty
    } else if tried.is_empty() || members.open().is_empty() {
        NoEndpoint::Unhealthy
    } else {
        NoEndpoint::Tried
    }
}
