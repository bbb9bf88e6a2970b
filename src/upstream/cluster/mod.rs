//! One upstream at work: its engine, its endpoints and the choice among them.
//!
//! Building one is pure (`build`); what it does in the background is one future (`run`).

mod background;
mod build;
mod draining;
mod removed_endpoints;
mod status;
#[cfg(test)]
mod tests;

pub use draining::{DrainingEndpoint, Leaving, Order};
pub use removed_endpoints::RemovedUpstream;
pub use status::{ClusterStatus, EndpointStatus};

use super::balance::CookieScope;
use super::clock;
use super::connector::Connector;
use super::discovery::EndpointSource;
use super::endpoint::Endpoint;
use super::endpoint_set::{EndpointSet, Members};
use super::hash_key::{Key, KeySource, RequestView};
use super::health::ProbeSchedule;
use super::lease::{Lease, NoEndpoint, Tried};
use super::passive_health::Policy;
use super::pingora_selection::Selection;
use super::session_drain::DrainMoment;
use crate::config;
use crate::telemetry::metrics::UpstreamMetrics;
use http::{HeaderMap, HeaderValue};
use moongate_config::Problem;
use moongate_sdk::cookies;
use pingora_load_balancing::LoadBalancer;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Milliseconds between two warnings that an upstream has nobody healthy left.
const PANIC_LOG_EVERY: u64 = 10_000;

/// One upstream at work.
///
/// Built anew when its settings change, and the same instance while they do not.
pub struct Cluster {
    name: Arc<str>,
    spec: config::Upstream,
    key: KeySource,
    /// The cookie that names an endpoint, where the balance sets one.
    cookie: Option<CookieScope>,
    policy: Policy,
    reach: Arc<Connector>,
    roster: Arc<EndpointSet>,
    source: Arc<EndpointSource>,
    engine: LoadBalancer<Selection>,
    rhythm: Option<ProbeSchedule>,
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
    /// How often the membership changed.
    members: AtomicU64,
    /// Which of these memberships was probed last.
    probed: watch::Sender<Option<u64>>,
}

/// How a client is tied to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Its cookie names an endpoint that takes requests.
    Endpoint,
    /// The endpoint of its cookie takes none now; another one of the upstream does.
    Upstream,
    /// It has no cookie of this upstream, or the upstream has no endpoint for it.
    None,
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
    pub fn spec(&self) -> &config::Upstream {
        &self.spec
    }

    /// How its endpoints are reached.
    pub fn reach(&self) -> &Arc<Connector> {
        &self.reach
    }

    /// What an operator should know about its settings, though they are taken.
    pub fn advice(&self) -> &[Problem] {
        &self.advice
    }

    /// What of a request [`Cluster::pick`] needs. Borrows; costs nothing when the balance needs nothing.
    pub fn key<'a>(&self, request: &RequestView<'a>) -> Key<'a> {
        self.presented(request.headers).map_or_else(|| self.key.read(request), Key::of_cookie)
    }

    /// What its balance hashes a request by; `Nothing` where it looks at no request.
    pub fn key_source(&self) -> &KeySource {
        &self.key
    }

    /// The cookie that names an endpoint; none unless the balance is `sticky`.
    pub fn cookie(&self) -> Option<&CookieScope> {
        self.cookie.as_ref()
    }

    /// The cookie of a client that is tied to one of these endpoints. Of several with one name, which differ in
    /// path or domain, one that names an endpoint which takes requests is preferred.
    fn presented<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let name = &*self.cookie.as_ref()?.name;
        let mut values = cookies(headers, name);
        let (first, second) = (values.next()?, values.next());
        if second.is_none() {
            return Some(first);
        }
        let members = self.roster.current();
        let rank = |value: &&[u8]| members.balance().member_of(value).map(|index| members.is_usable(index));
        // The last of equals wins, so the first one that was sent is to come last.
        let values: Vec<_> = cookies(headers, name).collect();
        values.into_iter().rev().max_by_key(rank)
    }

    /// Whether a client is tied to one of these endpoints by a cookie, on a route whose drains have this window.
    pub fn affinity(&self, headers: &HeaderMap, drain_window: Duration) -> Affinity {
        let Some(value) = self.presented(headers) else { return Affinity::None };
        let members = self.roster.current();
        match members.balance().member_of(value) {
            Some(index) if members.is_usable(index) => Affinity::Endpoint,
            Some(_) if members.draining_owner(value, &Tried::new(), drain_window).is_some() => {
                Affinity::Endpoint
            }
            Some(_) if !members.open().is_empty() => Affinity::Upstream,
            _ => Affinity::None,
        }
    }

    /// Waits while no endpoint is healthy and one has not been probed yet, for at most the `timeout` of one probe: it
    /// should get no request before. To be called before [`Cluster::pick`]; at once without a health check.
    pub async fn await_first_probe(&self) {
        let Some(rhythm) = self.rhythm else { return };
        if self.roster.current().awaits_first_probe() {
            // Beyond that `when_all_unhealthy` decides.
            let _ = tokio::time::timeout(rhythm.timeout, self.roster.first_probe()).await;
        }
    }

    /// Chooses an endpoint for one try of one request, and counts it there from now on. A draining endpoint keeps its
    /// sessions until their moments in a drain with this window; with a window of zero it gets nothing.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, key: &Key<'_>, tried: &Tried, drain_window: Duration) -> Result<Lease, NoEndpoint> {
        let members = self.roster.current();
        if let Some(endpoint) = members.draining_owner(key.as_bytes(), tried, drain_window) {
            return Ok(Lease::new(Arc::clone(endpoint), self.policy));
        }
        let found = if tried.is_first_choice() {
            self.choose(&members, key)
        } else {
            members.choose_again(key.as_bytes(), tried).map(Arc::clone)
        };
        let Some(endpoint) = found else { return Err(why_nobody(&members, tried)) };
        if !endpoint.is_usable() {
            self.panic();
        }
        Ok(Lease::new(endpoint, self.policy))
    }

    /// The engine's choice for a request that was at no endpoint yet.
    fn choose(&self, members: &Members, key: &Key<'_>) -> Option<Arc<Endpoint>> {
        let found = Cell::new(None);
        // Our turns end by themselves, so the engine needs no bound. Its own idea of health is not
        // asked: who is out was never a candidate. One that just left has no seat: refused as well.
        let accept = |backend: &pingora_load_balancing::Backend, _: bool| {
            found.set(members.find(&backend.addr).map(super::balance::Member::endpoint));
            found.get().is_some()
        };
        self.engine.select_with(key.as_bytes(), usize::MAX, accept);
        found.get().map(Arc::clone)
    }

    /// The `Set-Cookie` for the response of a lease's endpoint, and the moment of the new session in a drain; none unless
    /// the balance is `sticky` and the request's key is not already this endpoint's cookie.
    pub fn sticky_cookie(&self, lease: &Lease, key: &Key<'_>) -> Option<(HeaderValue, DrainMoment)> {
        self.cookie.as_ref()?;
        let members = self.roster.current();
        let index = members.index_of(lease.endpoint().token())?;
        members.balance().set_cookie(index, key.as_bytes())
    }

    /// When in a drain the session of a request leaves; none when its key names no session.
    pub fn drain_moment(&self, key: &Key<'_>) -> Option<DrainMoment> {
        self.roster.current().balance().drain_moment(key.as_bytes())
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
