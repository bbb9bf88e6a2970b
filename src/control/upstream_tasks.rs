//! Tasks of clusters: probes and name resolution. One task per cluster instance, kept over reloads; a
//! rejected generation leaves none.

use crate::runtime::supervision;
use crate::snapshot::Snapshot;
use crate::upstream::Cluster;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The running tasks by cluster instance. The instance is held, so that its address is not reused while it is
/// a key.
#[derive(Default)]
pub(super) struct Supervisor {
    tasks: HashMap<usize, (Arc<Cluster>, JoinHandle<()>)>,
}

/// An instance's task key: its address, which is never dereferenced.
fn name(cluster: &Arc<Cluster>) -> usize {
    Arc::as_ptr(cluster).addr()
}

impl Supervisor {
    /// Starts the tasks of new clusters and returns those clusters.
    pub(super) fn begin(&mut self, snapshot: &Snapshot) -> Vec<Arc<Cluster>> {
        let mut fresh = Vec::new();
        for cluster in snapshot.clusters() {
            self.tasks.entry(name(cluster)).or_insert_with(|| {
                fresh.push(Arc::clone(cluster));
                let own = Arc::clone(cluster);
                let work = move || Arc::clone(&own).run();
                (Arc::clone(cluster), supervision::spawn("upstream", &**cluster.name(), work))
            });
        }
        fresh
    }

    /// Aborts the tasks of clusters that the generation does not contain.
    pub(super) fn end_all_but(&mut self, snapshot: &Snapshot) {
        let living: HashSet<_> = snapshot.clusters().map(name).collect();
        self.tasks.retain(|cluster, (_, task)| {
            let lives = living.contains(cluster);
            if !lives {
                task.abort();
            }
            lives
        });
    }
}

/// Waits until each cluster has probed and resolved its endpoints once, at most `bound`.
pub(super) async fn first_rounds(clusters: Vec<Arc<Cluster>>, bound: Duration) {
    let all = async {
        for cluster in &clusters {
            cluster.first_round().await;
        }
    };
    // After the bound the generation serves. Endpoints without a probe result get no traffic, unless no other
    // endpoint is healthy: requests then wait up to one probe timeout and follow `when_all_unhealthy`.
    let _ = tokio::time::timeout(bound, all).await;
}
