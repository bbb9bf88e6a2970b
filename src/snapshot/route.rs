//! A route as a request meets it.

use super::Destination;
use super::route_version::RouteVersion;
use crate::config::{self, EscapedSlashes, MergeSlashes, OnClientClose, PathParameters};
use crate::plugin::{Chain, Entry};
use crate::telemetry::metrics::{Answers, NONE, RouteMetrics};
use crate::tunnel::Policy;
use crate::upstream::Cluster;
use moongate_config::{Period, Placed, Problems};
use std::sync::Arc;
use std::time::Duration;

/// The longest silence in a response's body where nothing else is written.
const IDLE_BODY: Duration = Duration::from_secs(60);
/// The same for event streams and calls of gRPC, which are silent by nature.
const IDLE_STREAM: Duration = Duration::from_secs(3600);

/// A route as a request meets it.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Where it sends its requests.
    pub destination: Destination,
    /// How long a backend may take to the head of its response.
    pub timeout: Option<Duration>,
    stream_idle_timeout: Option<Duration>,
    /// What happens when an HTTP/1.1 client closes its direction before its response has ended.
    pub on_client_close: OnClientClose,
    /// Whether TRACE is passed on: its `methods` name it.
    pub allows_trace: bool,
    /// How it reads the parameters of path segments.
    pub path_parameters: PathParameters,
    /// What happens to escaped slashes, where the server's word does not hold.
    pub escaped_slashes: Option<EscapedSlashes>,
    /// What happens to several slashes in a row, likewise.
    pub merge_slashes: Option<MergeSlashes>,
    /// Whether its requests are logged.
    pub logged: bool,
    /// Its plugins, the ones of every route first. WebSockets that they look at keep them.
    pub chain: Arc<Chain>,
    /// Its series.
    pub metrics: Arc<RouteMetrics>,
    /// Counts the answers that no cluster had a part in.
    pub unserved: Arc<Answers>,
    answers: Vec<(Arc<Cluster>, Arc<Answers>)>,
    /// The policy of its WebSockets; they keep this and nothing else of the route.
    pub policy: Arc<Policy>,
    edition: Arc<RouteVersion>,
}

impl Route {
    pub(super) fn new<'a>(
        name: &str,
        written: &Placed<config::Route>,
        destination: Destination,
        prior: Option<&Self>,
        plugins: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Result<Self, Problems> {
        let plugins: Vec<_> = plugins.cloned().collect();
        let policy = Policy::new(&written.websocket, prior.map(|prior| &*prior.policy))
            .map_err(|problems| problems.at(&written.place))?;
        let edition = RouteVersion::of(&destination, &written.websocket, prior.map(|prior| &prior.edition));
        let metrics = RouteMetrics::of(name);
        let answers = destination
            .clusters()
            .map(|cluster| (Arc::clone(cluster), metrics.answers(cluster.name())))
            .collect();
        Ok(Self {
            name: name.into(),
            destination,
            unserved: metrics.answers(NONE),
            answers,
            timeout: limit(written.timeout),
            stream_idle_timeout: written.stream_idle_timeout.map(|written| written.0),
            on_client_close: written.on_client_close,
            allows_trace: written.methods.iter().any(|method| method.value == "TRACE"),
            path_parameters: written.path_parameters,
            escaped_slashes: written.escaped_slashes,
            merge_slashes: written.merge_slashes,
            logged: written.access_log,
            chain: Arc::new(Chain::build(&plugins)),
            metrics,
            policy: Arc::new(policy),
            edition,
        })
    }

    /// The longest silence in a response; `streams` for an event stream or a call of gRPC.
    pub fn silence(&self, streams: bool) -> Option<Duration> {
        let default = if streams { IDLE_STREAM } else { IDLE_BODY };
        Some(self.stream_idle_timeout.unwrap_or(default)).filter(|silence| !silence.is_zero())
    }

    /// Its edition: the same number over reloads as long as its destination and the policy of its
    /// WebSockets stay, and never 0.
    pub fn edition(&self) -> u64 {
        self.edition.number()
    }

    /// Where answers through this cluster are counted; a route has one cluster or a handful.
    pub fn answers(&self, cluster: &Arc<Cluster>) -> &Answers {
        let found = self.answers.iter().find(|(known, _)| Arc::ptr_eq(known, cluster));
        found.map_or(&self.unserved, |(_, answers)| answers)
    }
}

/// `0s` is no limit.
fn limit(period: Period) -> Option<Duration> {
    Some(period.0).filter(|limit| !limit.is_zero())
}
