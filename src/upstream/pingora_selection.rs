//! Adapter from an upstream's endpoint set to pingora-load-balancing's `BackendSelection`, through which it installs the
//! membership.
//!
//! Requests select in the [`ReadySet`](super::ready_set::ReadySet) directly: `LoadBalancer::select_with` copies the backend
//! and allocates a set of those that it has seen, and retries need to know the tried endpoints. The iterator gives its
//! callers the same endpoints.

use super::endpoint_set::EndpointSet;
use super::members::Members;
use super::ready_set::ReadySet;
use super::tried_endpoints::TriedEndpoints;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The members of one membership, as pingora-load-balancing selects among them.
pub(super) struct Selection {
    endpoint_set: Arc<EndpointSet>,
    members: Arc<Members>,
}

impl BackendSelection for Selection {
    type Iter = CandidateIter;
    type Config = Arc<EndpointSet>;

    fn build_with_config(backends: &BTreeSet<Backend>, endpoint_set: &Arc<EndpointSet>) -> Self {
        Self { members: endpoint_set.install(backends), endpoint_set: Arc::clone(endpoint_set) }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Arc::default())
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> CandidateIter {
        CandidateIter {
            selection: Arc::clone(self),
            ready: self.endpoint_set.ready(),
            key: key.into(),
            seen: TriedEndpoints::new(),
        }
    }
}

/// The endpoints in the order in which one request should try them.
pub(super) struct CandidateIter {
    selection: Arc<Selection>,
    ready: Arc<ReadySet>,
    key: Box<[u8]>,
    seen: TriedEndpoints,
}

impl BackendIter for CandidateIter {
    fn next(&mut self) -> Option<&Backend> {
        let endpoint = self.ready.choose(&self.key, &self.seen)?.endpoint();
        self.seen.add(endpoint);
        self.selection.members.backend(&endpoint.address().to_engine()?)
    }
}
