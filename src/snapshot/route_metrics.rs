//! The metrics of a compiled route: its own, and those of its responses by upstream.

use crate::telemetry::metrics::{LazyHandle, NONE, ResponseMetrics, RouteMetrics};
use crate::upstream::Cluster;
use std::sync::Arc;

/// The metrics of one route.
pub struct CompiledRouteMetrics {
    /// The series of the route itself.
    pub route: Arc<RouteMetrics>,
    /// Counts the responses that no upstream was involved in.
    pub without_upstream: Arc<ResponseMetrics>,
    by_upstream: Vec<Arc<ResponseMetrics>>,
}

impl CompiledRouteMetrics {
    /// A handle to the metrics of the route `name`, whose upstreams are `clusters`.
    pub(super) fn lazy(name: &str, clusters: &[Arc<Cluster>]) -> LazyHandle<Self> {
        let name = name.to_owned();
        let upstreams: Vec<Arc<str>> = clusters.iter().map(|cluster| Arc::clone(cluster.name())).collect();
        LazyHandle::new(move || {
            let route = RouteMetrics::of(&name);
            let by_upstream = upstreams.iter().map(|name| route.responses(name)).collect();
            Self { without_upstream: route.responses(NONE), by_upstream, route }
        })
    }

    /// The counters for responses of the upstream at `index` of the route's clusters.
    pub(super) fn upstream(&self, index: usize) -> &ResponseMetrics {
        self.by_upstream.get(index).unwrap_or(&self.without_upstream)
    }
}
