//! Removed endpoints of a removed upstream. They are reported until their last request or WebSocket ends, and
//! their counts are reused if the upstream is configured again.

use super::Cluster;
use crate::upstream::endpoint_set::{Departed, DepartedEndpoint};
use std::fmt;
use std::sync::Arc;

/// The remains of a removed upstream. They keep no endpoint alive.
#[derive(Clone)]
pub struct RemovedUpstream {
    name: Arc<str>,
    departed: Departed,
}

impl fmt::Debug for RemovedUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedUpstream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RemovedUpstream {
    /// The remains of an upstream that is still in use.
    pub fn of(cluster: &Cluster) -> Self {
        Self { name: Arc::clone(&cluster.name), departed: cluster.endpoint_set.all_departed() }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns whether no request or WebSocket is left, which is final.
    pub fn is_unused(&self) -> bool {
        self.departed.values().all(DepartedEndpoint::is_unused)
    }

    pub(super) fn departed(&self) -> &Departed {
        &self.departed
    }
}
