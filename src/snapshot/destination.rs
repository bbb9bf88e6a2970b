//! The destination of a route: one cluster, or several by weight.

use super::Compiler;
use crate::config::{self, Config, UpstreamProtocol, UpstreamRef};
use crate::upstream::{Affinity, Cluster, KeySource, RequestView};
use http::header;
use indexmap::IndexMap;
use moongate_config::{Place, Placed, Problem};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// The destination of a route's requests.
pub enum Destination {
    /// Nowhere: a plugin responds to every request.
    None,
    /// Always here.
    One(Arc<Cluster>),
    /// Several clusters: a client stays where its cookie or key leads, others are drawn for each request.
    Weighted {
        /// Each with the sum of the weights up to and including its own.
        upto: Vec<(u32, Arc<Cluster>)>,
        /// The sum of all weights.
        total: u32,
        /// The key that every cluster hashes, if they have one in common.
        key: Option<KeySource>,
    },
}

impl Destination {
    /// Every cluster that may be selected.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let (one, shares) = match self {
            Self::None => (None, &[][..]),
            Self::One(cluster) => (Some(cluster), &[][..]),
            Self::Weighted { upto, .. } => (None, &upto[..]),
        };
        one.into_iter().chain(shares.iter().map(|(_, cluster)| cluster))
    }

    /// The cluster, if it is the same for every request.
    pub fn only(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::One(cluster) => Some(cluster),
            Self::None | Self::Weighted { .. } => None,
        }
    }

    /// The cluster for one request: the one that its cookie belongs to, otherwise the one that its key is hashed
    /// to, otherwise one by chance. None without an upstream. `drain_window` is the route's.
    pub fn choose(&self, request: &RequestView<'_>, drain_window: Duration) -> Option<&Arc<Cluster>> {
        match self {
            Self::None => None,
            Self::One(cluster) => Some(cluster),
            Self::Weighted { upto, total, key } => {
                Some(by_cookie(upto, request, drain_window).unwrap_or_else(|| {
                    let drawn = match key {
                        Some(key) => hashed(key.read(request).as_bytes(), *total),
                        None => fastrand::u32(..*total),
                    };
                    let found = upto.partition_point(|(sum, _)| *sum <= drawn);
                    // The last sum is the total and above every draw, so the fallback is never used.
                    &upto.get(found).unwrap_or(&upto[0]).1
                }))
            }
        }
    }
}

/// The cluster that a client has a cookie of. Of several, the first one whose cookie names an available
/// endpoint.
fn by_cookie<'a>(
    upto: &'a [(u32, Arc<Cluster>)],
    request: &RequestView<'_>,
    drain_window: Duration,
) -> Option<&'a Arc<Cluster>> {
    if !request.headers.contains_key(header::COOKIE) {
        return None;
    }
    let mut upstream = None;
    for (_, cluster) in upto {
        match cluster.affinity(request.headers, drain_window) {
            Affinity::Endpoint => return Some(cluster),
            Affinity::Upstream => upstream = upstream.or(Some(cluster)),
            Affinity::None => {}
        }
    }
    upstream
}

/// A number below `total` from a key, equal at every gateway and in every version, so that a key keeps its
/// share. The prefix makes it independent of the ring inside a cluster.
fn hashed(key: &[u8], total: u32) -> u32 {
    let digest = Sha256::new().chain_update(b"moongate share").chain_update(key).finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number % u64::from(total.max(1))).unwrap_or_default()
}

/// The key that all of these hash.
fn common_key(upto: &[(u32, Arc<Cluster>)]) -> Option<KeySource> {
    let key = upto.first()?.1.key_source();
    let is_hashed =
        |cluster: &Cluster| cluster.cookie().is_none() && *cluster.key_source() != KeySource::Nothing;
    let same = upto.iter().all(|(_, cluster)| is_hashed(cluster) && cluster.key_source() == key);
    same.then(|| key.clone())
}

type Clusters = IndexMap<String, Arc<Cluster>>;

impl Compiler<'_> {
    pub(super) fn destination(
        &mut self,
        spec: &Config,
        route: &str,
        upstream: &Placed<UpstreamRef>,
        clusters: &mut Clusters,
    ) -> Option<Destination> {
        let place = &upstream.place;
        match &upstream.value {
            UpstreamRef::Name(name) => self.named(spec, name, place, clusters).map(Destination::One),
            UpstreamRef::Inline(endpoints) => {
                let endpoints = Placed { value: endpoints.clone(), place: place.clone() };
                let upstream = config::Upstream::of(endpoints);
                let cluster = self.cluster(route, &upstream, place)?;
                if clusters.insert(route.to_owned(), Arc::clone(&cluster)).is_some() {
                    self.problems.push(
                        Problem::new(format!(
                            "the inline upstream of route `{route}` has the name of another upstream"
                        ))
                        .at(place)
                        .help("an inline upstream has the name of its route; rename one of them"),
                    );
                }
                Some(Destination::One(cluster))
            }
            UpstreamRef::Weighted(weights) => self.weighted(spec, weights, place, clusters),
        }
    }

    /// Warns of WebSocket settings on a route to h2c backends: the gateway opens no WebSocket over HTTP/2 to
    /// a backend.
    pub(super) fn warn_of_h2c(&mut self, written: &config::Route, destination: &Destination) {
        let has_policy = written.websocket != config::WebSocket::default();
        let place = || written.upstream.as_ref().map_or(Place::nowhere(), |upstream| upstream.place.clone());
        for cluster in destination.clusters() {
            if cluster.connector().protocol() != UpstreamProtocol::H2c {
                continue;
            }
            let name = cluster.name();
            let mut warn = |effect: &str, help: &str| {
                let problem = Problem::warning(format!("upstream `{name}` has `protocol: h2c`: {effect}"));
                self.problems.push(problem.help(help).at(&place()));
            };
            if has_policy {
                let help = "use an upstream with `protocol: http1`, or remove `websocket`";
                warn("WebSockets of this route get 502", help);
            }
            if !written.upgrades.is_empty() {
                let help = "use an upstream with `protocol: http1`, or remove `upgrades`";
                warn("HTTP/2 has no upgrade, so that `upgrades` has no effect", help);
            }
        }
    }

    fn named(
        &mut self,
        spec: &Config,
        name: &str,
        place: &Place,
        clusters: &Clusters,
    ) -> Option<Arc<Cluster>> {
        // An upstream with errors has its own problem already.
        if !spec.upstreams.contains_key(name) {
            let known = spec.upstreams.keys().map(String::as_str);
            let mut problem =
                Problem::new(format!("unknown upstream `{name}`")).at(place).suggest(name, known);
            if spec.upstreams.is_empty() {
                problem = problem
                    .help("`upstreams:` defines none; write a single address as a list: [127.0.0.1:8081]");
            }
            self.problems.push(problem);
        }
        clusters.get(name).cloned()
    }

    fn weighted(
        &mut self,
        spec: &Config,
        weights: &IndexMap<String, Placed<u32>>,
        place: &Place,
        clusters: &Clusters,
    ) -> Option<Destination> {
        let mut upto = Vec::with_capacity(weights.len());
        let mut total = 0_u32;
        for (name, weight) in weights {
            let cluster = self.named(spec, name, &weight.place, clusters);
            match (total.checked_add(weight.value), cluster) {
                // A weight of 0 keeps a name in the file without sending requests to it.
                (Some(sum), Some(cluster)) if weight.value > 0 => {
                    total = sum;
                    upto.push((sum, cluster));
                }
                (Some(_), _) => {}
                (None, _) => {
                    self.problems
                        .push(Problem::new("the weights add up to more than 4294967295").at(&weight.place));
                    return None;
                }
            }
        }
        if weights.values().all(|weight| weight.value == 0) {
            self.problems.push(Problem::new("no upstream has a weight above 0").at(place));
        }
        let key = common_key(&upto);
        (total > 0).then_some(Destination::Weighted { upto, total, key })
    }
}
