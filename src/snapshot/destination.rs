//! Where a route sends its requests: one cluster, or several by shares.

use super::Compiler;
use crate::spec::{self, Spec, UpstreamProtocol, UpstreamRef};
use crate::upstream::Cluster;
use indexmap::IndexMap;
use moongate_sdk::{Place, Placed, Problem};
use std::sync::Arc;

/// Where a route sends its requests.
pub enum Destination {
    /// Always here.
    One(Arc<Cluster>),
    /// By shares, drawn for each request.
    Shares {
        /// Each with the sum of the shares up to and including its own.
        upto: Vec<(u32, Arc<Cluster>)>,
        /// The sum of all shares.
        total: u32,
    },
}

impl Destination {
    /// Every cluster it may choose.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let (one, shares) = match self {
            Self::One(cluster) => (Some(cluster), &[][..]),
            Self::Shares { upto, .. } => (None, &upto[..]),
        };
        one.into_iter().chain(shares.iter().map(|(_, cluster)| cluster))
    }

    /// The cluster for one request.
    pub fn choose(&self) -> &Arc<Cluster> {
        match self {
            Self::One(cluster) => cluster,
            Self::Shares { upto, total } => {
                let drawn = fastrand::u32(..*total);
                let found = upto.partition_point(|(sum, _)| *sum <= drawn);
                // The last sum is the total and above every draw; the first stands in for what cannot be.
                &upto.get(found).unwrap_or(&upto[0]).1
            }
        }
    }
}

type Clusters = IndexMap<String, Arc<Cluster>>;

impl Compiler<'_> {
    pub(super) fn destination(
        &mut self,
        spec: &Spec,
        route: &str,
        written: &spec::Route,
        clusters: &mut Clusters,
    ) -> Option<Destination> {
        let place = &written.upstream.place;
        match &written.upstream.value {
            UpstreamRef::Name(name) => self.named(spec, name, place, clusters).map(Destination::One),
            UpstreamRef::Inline(endpoints) => {
                let upstream = spec::Upstream::of(endpoints.clone());
                let cluster = self.cluster(route, &upstream, place)?;
                if clusters.insert(route.to_owned(), Arc::clone(&cluster)).is_some() {
                    self.problems.push(
                        Problem::new(format!(
                            "the inline upstream of route `{route}` meets an upstream of that name"
                        ))
                        .at(place)
                        .help("an inline list goes by its route's name; rename one of them"),
                    );
                }
                Some(Destination::One(cluster))
            }
            UpstreamRef::Weighted(shares) => self.shares(spec, shares, place, clusters),
        }
    }

    /// No WebSocket is opened with HTTP/2 at a backend: settings for them say that some are expected.
    pub(super) fn warn_of_h2c(&mut self, written: &spec::Route, destination: &Destination) {
        if written.websocket == spec::WebSocket::default() {
            return;
        }
        for cluster in destination.clusters() {
            if cluster.reach().protocol() == UpstreamProtocol::H2c {
                let name = cluster.name();
                let problem = Problem::warning(format!(
                    "upstream `{name}` is of `protocol: h2c`: WebSockets get 502 there, whatever `websocket` of this route says"
                ));
                let help = "send them to an upstream with `protocol: http1`, or take `websocket` out";
                self.problems.push(problem.help(help).at(&written.upstream.place));
            }
        }
    }

    fn named(&mut self, spec: &Spec, name: &str, place: &Place, clusters: &Clusters) -> Option<Arc<Cluster>> {
        // One that is there but broken has its own problem already.
        if !spec.upstreams.contains_key(name) {
            let known = spec.upstreams.keys().map(String::as_str);
            let mut problem =
                Problem::new(format!("unknown upstream `{name}`")).at(place).suggest(name, known);
            if spec.upstreams.is_empty() {
                problem = problem
                    .help("`upstreams:` names none; an address alone is written as a list: [127.0.0.1:8081]");
            }
            self.problems.push(problem);
        }
        clusters.get(name).cloned()
    }

    fn shares(
        &mut self,
        spec: &Spec,
        shares: &IndexMap<String, Placed<u32>>,
        place: &Place,
        clusters: &Clusters,
    ) -> Option<Destination> {
        let mut upto = Vec::with_capacity(shares.len());
        let mut total = 0_u32;
        for (name, share) in shares {
            let cluster = self.named(spec, name, &share.place, clusters);
            match (total.checked_add(share.value), cluster) {
                // A share of 0 is a way to keep a name in the file without sending anything there.
                (Some(sum), Some(cluster)) if share.value > 0 => {
                    total = sum;
                    upto.push((sum, cluster));
                }
                (Some(_), _) => {}
                (None, _) => {
                    self.problems
                        .push(Problem::new("the shares add up to more than 4294967295").at(&share.place));
                    return None;
                }
            }
        }
        if shares.values().all(|share| share.value == 0) {
            self.problems.push(Problem::new("no upstream has a share above 0").at(place));
        }
        (total > 0).then_some(Destination::Shares { upto, total })
    }
}
