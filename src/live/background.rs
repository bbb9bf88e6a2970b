//! Work of the plugins beside the requests: one task an instance, kept over reloads as the instance is.

use crate::chain::Entry;
use crate::snapshot::Snapshot;
use log::error;
use moongate_sdk::Services;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The wait before work that panicked is begun again; it doubles with each panic in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The running tasks, by the entry they belong to. The entry is held, so that its address is not given
/// to another while it is a key.
#[derive(Default)]
pub(super) struct Background {
    tasks: HashMap<usize, (Arc<Entry>, JoinHandle<()>)>,
}

/// An entry's name among the tasks: its address, which is never followed.
fn name(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}

impl Background {
    /// Begins the work of the entries that are new in this generation, and ends that of those it no longer has.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, services: &Arc<dyn Services>) {
        let living: HashSet<_> = snapshot.plugins().map(name).collect();
        self.tasks.retain(|entry, (_, task)| {
            let lives = living.contains(entry);
            if !lives {
                task.abort();
            }
            lives
        });
        for entry in snapshot.plugins() {
            self.tasks.entry(name(entry)).or_insert_with(|| {
                let task = tokio::spawn(keep(Arc::clone(entry), Arc::clone(services)));
                (Arc::clone(entry), task)
            });
        }
    }
}

/// Does the work until it is done; after a panic again, and later each time.
async fn keep(entry: Arc<Entry>, services: Arc<dyn Services>) {
    let mut wait = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        if entry.background(&services).await.is_ok() {
            return;
        }
        // It worked for a long time: this is another mishap, not the same one again.
        if begun.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        let name = entry.name();
        error!(plugin = &**name, again_in_seconds = wait.as_secs(); "a plugin's work beside the requests panicked");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests;
