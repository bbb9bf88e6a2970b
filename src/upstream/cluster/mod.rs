//! One running upstream: its endpoints and the selection among them.
//!
//! Building one is pure (`build`); its background work is one future (`run`).

mod background;
mod build;
mod drain_state;
mod endpoint_state;
mod probing;
mod removed_endpoints;
mod status;
#[cfg(test)]
mod tests;

pub use drain_state::{AcceptingEndpoint, DrainingEndpoint, Leaving, Order};
pub use endpoint_state::EndpointState;
pub use removed_endpoints::RemovedUpstream;
pub use status::{ClusterStatus, EndpointStatus};

use super::address::Origin;
use super::announced::Identity;
use super::balance::CookieScope;
use super::connector::Connector;
use super::discovery::EndpointSource;
use super::endpoint::Endpoint;
use super::endpoint_set::EndpointSet;
use super::hash_key::{Key, KeySource, RequestView};
use super::health::{Check, ProbeSchedule};
use super::lease::{Lease, NoEndpoint};
use super::members::Members;
use super::monotonic_millis;
use super::passive_health::Policy;
use super::pingora_selection::Selection;
use super::ready_set::ReadySet;
use super::session_drain::DrainMoment;
use super::tried_endpoints::TriedEndpoints;
use crate::config;
use crate::runtime::shared_secrets::SharedSecrets;
use crate::telemetry::metrics::{LazyHandle, UpstreamMetrics};
use http::{HeaderMap, HeaderValue};
use moongate_config::{Placed, Problem};
use moongate_sdk::cookies;
use pingora_load_balancing::LoadBalancer;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Milliseconds between two warnings that an upstream has no healthy endpoint.
const ALL_UNHEALTHY_LOG_EVERY: u64 = 10_000;

/// The most rounds of one selection. Where endpoints are nearly full, other requests may take the place that was found, and
/// one that was full when it was read may have a place.
const PICK_ROUNDS: usize = 64;

/// One running upstream.
///
/// A reload builds a new one only if its settings change.
pub struct Cluster {
    name: Arc<str>,
    spec: config::Upstream,
    key: KeySource,
    /// The cookie that names an endpoint, if the balancer sets one.
    cookie: Option<CookieScope>,
    policy: Policy,
    connector: Arc<Connector>,
    endpoint_set: Arc<EndpointSet>,
    source: Arc<EndpointSource>,
    engine: LoadBalancer<Selection>,
    schedule: Option<ProbeSchedule>,
    /// The health check, with `schedule`.
    check: Option<Arc<Check>>,
    advice: Vec<Problem>,
    metrics: Arc<LazyHandle<Arc<UpstreamMetrics>>>,
    /// How many times an endpoint was selected while none was healthy.
    all_unhealthy_picks: AtomicU64,
    /// When the warning about it was last logged; 0 means never.
    warned: AtomicU64,
    resolve_failures: AtomicU64,
    /// Whether the first round of probes and lookups is complete.
    first_round: watch::Sender<bool>,
    /// Notified when a new endpoint should be probed before the next round.
    new_endpoints: Notify,
    /// How many times the membership changed.
    members: AtomicU64,
    /// The membership that was probed last.
    probed: watch::Sender<Option<u64>>,
}

/// How a client is tied to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Its cookie names an endpoint that accepts requests.
    Endpoint,
    /// The endpoint of its cookie accepts no requests now, but another one of the upstream does.
    Upstream,
    /// It has no cookie of this upstream, or the upstream has no available endpoint.
    None,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Registers the series of the upstream and of its endpoints.
    pub fn register_metrics(&self) {
        self.metrics.register();
        for member in self.endpoint_set.current().as_slice() {
            member.endpoint().metrics().register();
        }
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The settings. `Attempts` applies `connect_timeout` and `retries`, the proxy other time limits.
    pub fn spec(&self) -> &config::Upstream {
        &self.spec
    }

    /// The connector of its endpoints.
    pub fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// The store whose secrets sign its cookies, by its name in `stores`.
    pub fn secret_store(&self) -> Option<Placed<String>> {
        self.endpoint_set.current().balance().secret_store().cloned()
    }

    /// Signs its cookies with these secrets from now on.
    pub(crate) fn use_secrets(&self, secrets: &Arc<SharedSecrets>) {
        self.endpoint_set.current().balance().use_secrets(secrets);
    }

    /// Warnings about valid settings.
    pub fn advice(&self) -> &[Problem] {
        &self.advice
    }

    /// The key of a request for [`Cluster::pick`]. Borrows.
    pub fn key<'a>(&self, request: &RequestView<'a>) -> Key<'a> {
        self.presented(request.headers).map_or_else(|| self.key.read(request), Key::of_cookie)
    }

    /// Returns whether the balancer reads requests: [`Cluster::key`] is empty otherwise.
    pub fn reads_requests(&self) -> bool {
        self.cookie.is_some() || !matches!(self.key, KeySource::Nothing)
    }

    /// The part of a request that the balancer hashes; `Nothing` if it ignores requests.
    pub fn key_source(&self) -> &KeySource {
        &self.key
    }

    /// The cookie that names an endpoint; `None` unless the balancer is `sticky`.
    pub fn cookie(&self) -> Option<&CookieScope> {
        self.cookie.as_ref()
    }

    /// The cookie that ties a client to an endpoint. Of several with one name, which differ in path or
    /// domain, one that names an available endpoint is preferred.
    fn presented<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let name = &*self.cookie.as_ref()?.name;
        let mut values = cookies(headers, name);
        let (first, second) = (values.next()?, values.next());
        if second.is_none() {
            return Some(first);
        }
        let ready = self.endpoint_set.ready();
        let member_of = |value: &[u8]| ready.members().balance().member_of(value);
        let rank = |value: &&[u8]| member_of(value).map(|index| ready.is_available(index));
        // The last of equals wins, so the order is reversed: the first one sent is preferred.
        let values: Vec<_> = cookies(headers, name).collect();
        values.into_iter().rev().max_by_key(rank)
    }

    /// Whether a cookie ties a client to an endpoint, on a route with this drain window.
    pub fn affinity(&self, headers: &HeaderMap, drain_window: Duration) -> Affinity {
        let Some(value) = self.presented(headers) else { return Affinity::None };
        let (ready, tried) = (self.endpoint_set.ready(), TriedEndpoints::new());
        match ready.members().balance().member_of(value) {
            Some(index) if ready.is_available(index) => Affinity::Endpoint,
            Some(_) if ready.draining_owner(value, &tried, drain_window).is_some() => Affinity::Endpoint,
            Some(_) if ready.has_place(&tried) => Affinity::Upstream,
            _ => Affinity::None,
        }
    }

    /// Waits while no endpoint is healthy and one has not been probed yet, for at most one probe `timeout`.
    /// To be called before [`Cluster::pick`]; returns at once without a health check.
    pub async fn await_first_probe(&self) {
        let Some(schedule) = self.schedule else { return };
        if self.endpoint_set.ready().awaits_first_probe() {
            // After the timeout, `when_all_unhealthy` decides.
            let _ = tokio::time::timeout(schedule.timeout, self.endpoint_set.first_probe()).await;
        }
    }

    /// Selects an endpoint for one attempt of a request, and counts the attempt there. A draining endpoint keeps its
    /// sessions until their moments in a drain with this window; a window of zero ends them at once.
    ///
    /// # Errors
    /// Why no endpoint can be selected.
    pub fn pick(
        &self,
        key: &Key<'_>,
        tried: &TriedEndpoints,
        drain_window: Duration,
    ) -> Result<Lease, NoEndpoint> {
        self.pick_from(&self.endpoint_set.ready(), key, tried, drain_window)
    }

    /// As [`Cluster::pick`], for the handshake of a new WebSocket. If a drain has closed WebSockets whose clients have not
    /// come back, an endpoint that joined since the drain began is preferred, up to its even share.
    ///
    /// # Errors
    /// As [`Cluster::pick`].
    pub fn pick_for_websocket(
        &self,
        key: &Key<'_>,
        tried: &TriedEndpoints,
        drain_window: Duration,
    ) -> Result<Lease, NoEndpoint> {
        let ready = self.endpoint_set.ready();
        if tried.is_first_choice() && self.endpoint_set.reconnects().take(monotonic_millis::now) {
            let newcomer = ready.choose_newcomer(tried);
            if let Some(lease) = newcomer.and_then(|newcomer| Lease::of(newcomer, self.policy)) {
                return Ok(lease);
            }
        }
        self.pick_from(&ready, key, tried, drain_window)
    }

    fn pick_from(
        &self,
        ready: &ReadySet,
        key: &Key<'_>,
        tried: &TriedEndpoints,
        drain_window: Duration,
    ) -> Result<Lease, NoEndpoint> {
        let owner = ready.draining_owner(key.as_bytes(), tried, drain_window);
        if let Some(lease) = owner.and_then(|owner| Lease::of(owner, self.policy)) {
            return Ok(lease);
        }
        for _ in 0..PICK_ROUNDS {
            let Some(member) = ready.choose(key.as_bytes(), tried) else {
                match why_none(ready.members(), tried) {
                    NoEndpoint::Full if ready.has_place(tried) => continue,
                    why => return Err(why),
                }
            };
            // Other requests may have filled it since.
            let Some(lease) = Lease::of(member, self.policy) else { continue };
            if !lease.endpoint().is_usable() {
                self.count_all_unhealthy();
            }
            return Ok(lease);
        }
        Err(NoEndpoint::Full)
    }

    /// Returns whether an endpoint that was not tried can be selected now.
    pub fn has_candidate(&self, tried: &TriedEndpoints) -> bool {
        self.endpoint_set.ready().has_place(tried)
    }

    /// A lease of the endpoint with this address and identifier, for a WebSocket that another process has opened there; `None` if it is
    /// no address. It exists already, so no limit refuses it, and as after a reload it continues at a removed endpoint.
    pub fn lease_of(&self, address: &str, uid: Option<&str>) -> Option<Lease> {
        let Ok(Origin::Fixed(address)) = Origin::parse(address) else { return None };
        let members = self.endpoint_set.current();
        let member = members.find(&address.to_engine()?);
        let endpoint = match member.filter(|member| member.endpoint().uid() == uid) {
            Some(member) => Arc::clone(member.endpoint()),
            None => self.endpoint_set.removed_endpoint(Identity { address, uid: uid.map(Into::into) }),
        };
        Some(Lease::new(endpoint, self.policy))
    }

    /// The `Set-Cookie` for the response of a lease's endpoint, and the moment of the new session in a drain.
    /// `None` unless the balancer is `sticky` and the request's key is not already this endpoint's cookie.
    pub fn sticky_cookie(&self, lease: &Lease, key: &Key<'_>) -> Option<(HeaderValue, DrainMoment)> {
        self.cookie.as_ref()?;
        self.endpoint_set.current().balance().set_cookie(lease.endpoint(), key.as_bytes())
    }

    /// When the session of a request leaves in a drain; `None` if its key names no session.
    pub fn drain_moment(&self, key: &Key<'_>) -> Option<DrainMoment> {
        self.endpoint_set.current().balance().drain_moment(key.as_bytes())
    }

    /// The current endpoints, ordered by address.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoint_set.current().as_slice().iter().map(|member| Arc::clone(member.endpoint())).collect()
    }

    /// How many times an endpoint was selected while none was healthy.
    pub fn all_unhealthy_picks(&self) -> u64 {
        self.all_unhealthy_picks.load(Relaxed)
    }

    /// How many lookups of host names failed.
    pub fn resolve_failures(&self) -> u64 {
        self.resolve_failures.load(Relaxed)
    }

    fn count_all_unhealthy(&self) {
        self.all_unhealthy_picks.fetch_add(1, Relaxed);
        self.metrics.all_unhealthy();
        let now = monotonic_millis::now();
        let last = self.warned.load(Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= ALL_UNHEALTHY_LOG_EVERY;
        // Only one of the threads that find it due logs the warning.
        if due && self.warned.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            log::warn!(upstream = &*self.name, selections = self.all_unhealthy_picks(); "no healthy endpoint; all endpoints considered");
        }
    }
}

fn why_none(members: &Members, tried: &TriedEndpoints) -> NoEndpoint {
    if members.is_empty() {
        NoEndpoint::Empty
    } else if members.are_full(tried) {
        NoEndpoint::Full
    } else if tried.is_empty() || members.open().is_empty() {
        NoEndpoint::Unhealthy
    } else {
        NoEndpoint::Tried
    }
}
