//! The tasks of stores of shared limits: one for each store, kept over reloads that do not change it.

use crate::limit::Store;
use crate::runtime::supervision;
use crate::snapshot::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The pause between looks at new stores.
const LOOK: Duration = Duration::from_millis(5);

/// The running tasks.
#[derive(Default)]
pub(super) struct StoreTasks(Vec<(Arc<Store>, JoinHandle<()>)>);

impl StoreTasks {
    /// Starts the tasks of new stores, and returns these.
    pub(super) fn begin(&mut self, snapshot: &Snapshot) -> Vec<Arc<Store>> {
        let mut fresh = Vec::new();
        for store in snapshot.stores.all() {
            if self.0.iter().any(|(known, _)| Arc::ptr_eq(known, store)) {
                continue;
            }
            let own = Arc::clone(store);
            let work = move || Arc::clone(&own).run();
            self.0.push((Arc::clone(store), supervision::spawn("store", &**store.name(), work)));
            fresh.push(Arc::clone(store));
        }
        fresh
    }

    /// Ends the tasks of stores that the generation does not have.
    pub(super) fn end_all_but(&mut self, snapshot: &Snapshot) {
        self.0.retain(|(store, task)| {
            let is_used = snapshot.stores.all().any(|used| Arc::ptr_eq(used, store));
            if !is_used {
                task.abort();
            }
            is_used
        });
    }
}

/// Waits until the first attempts to connect to new stores have ended, at most for `longest`: before that their
/// `on_failure` applies.
pub(super) async fn first_connections(fresh: &[Arc<Store>], longest: Duration) {
    let until = Instant::now() + longest;
    while !fresh.iter().all(|store| store.is_tried()) && Instant::now() < until {
        sleep(LOOK).await;
    }
}
