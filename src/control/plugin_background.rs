//! Background tasks of plugins: one per instance, kept over reloads.

use crate::plugin::Entry;
use crate::runtime::supervision;
use crate::snapshot::Snapshot;
use moongate_sdk::Services;
use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The running tasks by entry. The entry is held, so that its address is not reused while it is a key.
#[derive(Default)]
pub(super) struct Background {
    tasks: HashMap<usize, (Arc<Entry>, JoinHandle<()>)>,
}

/// An entry's task key: its address, which is never dereferenced.
fn name(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}

impl Background {
    /// Starts tasks for new entries, and aborts those of removed ones.
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
                let (own, services) = (Arc::clone(entry), Arc::clone(services));
                let work = move || {
                    let (own, services) = (Arc::clone(&own), Arc::clone(&services));
                    async move {
                        if let Err(broken) = own.background(&services).await {
                            // The panic hook logged it already.
                            resume_unwind(Box::new(broken));
                        }
                    }
                };
                let task = supervision::spawn("plugin", &**entry.name(), work);
                (Arc::clone(entry), task)
            });
        }
    }
}

#[cfg(test)]
mod tests;
