//! A compiled route.

use super::Destination;
use super::route_metrics::CompiledRouteMetrics;
use super::route_version::RouteVersion;
use super::upgrade_protocols::UpgradeProtocols;
use crate::config::{self, EscapedSlashes, MergeSlashes, OnClientClose, OneOrMany, PathParameters};
use crate::limit::Stores;
use crate::plugin::{Chain, Entry};
use crate::telemetry::metrics::{LazyHandle, ResponseMetrics};
use crate::tunnel::Policy;
use crate::upstream::Cluster;
use moongate_config::{Period, Placed, Problems};
use std::sync::Arc;
use std::time::Duration;

/// The default maximum time without data in a response body.
const IDLE_BODY: Duration = Duration::from_secs(60);
/// The same for event streams and gRPC calls, which may be idle for long.
const IDLE_STREAM: Duration = Duration::from_secs(3600);

/// A compiled route.
pub struct Route {
    /// The name.
    pub name: Arc<str>,
    /// The path that it matches, as configured, if it is one.
    pub path: Option<Arc<str>>,
    /// The destination of its requests.
    pub destination: Destination,
    /// The time limit for the backend's response header.
    pub timeout: Option<Duration>,
    stream_idle_timeout: Option<Duration>,
    /// The action when an HTTP/1.1 client half-closes its connection before the response has ended.
    pub on_client_close: OnClientClose,
    /// Whether TRACE is forwarded: its `methods` contain it.
    pub allows_trace: bool,
    /// The interpretation of path parameters.
    pub path_parameters: PathParameters,
    /// The policy for escaped slashes, if it differs from the global one.
    pub escaped_slashes: Option<EscapedSlashes>,
    /// The policy for repeated slashes, if it differs from the global one.
    pub merge_slashes: Option<MergeSlashes>,
    /// Whether its requests are logged.
    pub logged: bool,
    /// Its plugins, global ones first. WebSockets with plugin phases keep the chain.
    pub chain: Arc<Chain>,
    /// Its metrics.
    pub metrics: LazyHandle<CompiledRouteMetrics>,
    clusters: Vec<Arc<Cluster>>,
    /// The policy of its tunnels, which keep nothing else of the route.
    pub policy: Arc<Policy>,
    /// The other protocols to which its requests may upgrade.
    pub upgrades: UpgradeProtocols,
    route_version: Arc<RouteVersion>,
}

impl Route {
    pub(super) fn new<'a>(
        name: &str,
        written: &Placed<config::Route>,
        destination: Destination,
        prior: Option<&Self>,
        stores: &Stores,
        plugins: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Result<Self, Problems> {
        let plugins: Vec<_> = plugins.cloned().collect();
        let mut problems = Problems::default();
        let policy = Policy::compile(&written.websocket, prior.map(|prior| &*prior.policy), stores, name);
        let policy = problems.keep(policy.map_err(|problems| problems.at(&written.place)));
        let upgrades = problems.keep(UpgradeProtocols::compile(&written.upgrades));
        let (Some(policy), Some(upgrades)) = (policy, upgrades) else { return Err(problems) };
        let route_version = RouteVersion::of(&destination, written, prior.map(|prior| &prior.route_version));
        let clusters: Vec<_> = destination.clusters().cloned().collect();
        Ok(Self {
            name: name.into(),
            path: path(&written.value),
            destination,
            timeout: limit(written.timeout),
            stream_idle_timeout: written.stream_idle_timeout.map(|written| written.0),
            on_client_close: written.on_client_close,
            allows_trace: written.methods.iter().any(|method| method.value == "TRACE"),
            path_parameters: written.path_parameters,
            escaped_slashes: written.escaped_slashes,
            merge_slashes: written.merge_slashes,
            logged: written.access_log,
            chain: Arc::new(Chain::build(&plugins)),
            metrics: CompiledRouteMetrics::lazy(name, &clusters),
            clusters,
            policy: Arc::new(policy),
            upgrades,
            route_version,
        })
    }

    /// The maximum time without data in a response; `streams` for an event stream or a gRPC call.
    pub fn silence(&self, streams: bool) -> Option<Duration> {
        let default = if streams { IDLE_STREAM } else { IDLE_BODY };
        Some(self.stream_idle_timeout.unwrap_or(default)).filter(|silence| !silence.is_zero())
    }

    /// Its version: constant over reloads while its destination, WebSocket policy and upgrades are unchanged, and never 0.
    pub fn route_version(&self) -> u64 {
        self.route_version.number()
    }

    /// The response counters for this cluster; a route has one cluster or a handful.
    pub fn response_metrics(&self, cluster: &Arc<Cluster>) -> &ResponseMetrics {
        match self.clusters.iter().position(|known| Arc::ptr_eq(known, cluster)) {
            Some(index) => self.metrics.upstream(index),
            None => &self.metrics.without_upstream,
        }
    }
}

/// The path for `http.route`, which has few values: a list of paths is none of them.
fn path(written: &config::Route) -> Option<Arc<str>> {
    match &written.path {
        Some(OneOrMany::One(path)) => Some(path.value.strip_prefix('=').unwrap_or(&path.value).into()),
        Some(OneOrMany::Many(paths)) if paths.len() == 1 => {
            paths.first().map(|path| path.value.strip_prefix('=').unwrap_or(&path.value).into())
        }
        _ => None,
    }
}

/// `0s` means no limit.
fn limit(period: Period) -> Option<Duration> {
    Some(period.0).filter(|limit| !limit.is_zero())
}
