//! The endpoints of an upstream that a reload removed, while requests or WebSockets are still on them. They are seen
//! until the last one has ended, and counted on when the upstream comes back.

use super::Cluster;
use crate::upstream::address::Address;
use crate::upstream::endpoint::Load;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// What is left of an upstream that was removed. It keeps no endpoint alive.
#[derive(Clone)]
pub struct RemovedUpstream {
    name: Arc<str>,
    loads: HashMap<Address, Weak<Load>>,
}

impl fmt::Debug for RemovedUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedUpstream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RemovedUpstream {
    /// Those of an upstream that is in use until now.
    pub fn of(cluster: &Cluster) -> Self {
        Self { name: Arc::clone(&cluster.name), loads: cluster.roster.loads() }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether nothing is on them any more, for good.
    pub fn is_unused(&self) -> bool {
        self.loads.values().all(|load| load.strong_count() == 0)
    }

    pub(super) fn loads(&self) -> &HashMap<Address, Weak<Load>> {
        &self.loads
    }
}
