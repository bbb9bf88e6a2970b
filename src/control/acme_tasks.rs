//! Tasks of automatic certificates: one per certificate, kept over reloads.

use crate::acme::{Job, PreparedJob};
use crate::runtime::supervision::{self, Backoff};
use crate::snapshot::Snapshot;
use moongate_config::Problems;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The delay before a panicked task is restarted: its requests may count against the CA's rate limits.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(15 * 60), longest: Duration::from_secs(2 * 60 * 60) };

/// The running tasks by certificate. The certificate is held, so that its address is not reused while it is a
/// key.
#[derive(Default)]
pub(super) struct Certificates {
    tasks: HashMap<usize, (Arc<Job>, JoinHandle<()>)>,
    /// Serialises requests to CAs.
    turn: Arc<Mutex<()>>,
}

/// A certificate's task key: its address, which is never dereferenced.
fn name(job: &Arc<Job>) -> usize {
    Arc::as_ptr(job).addr()
}

/// Reads the stored state of a generation's certificates, and checks that their directories are writable.
/// Changes nothing. Blocks on disk access.
///
/// # Errors
/// Every directory that cannot be used.
pub(super) fn prepare(jobs: &[Arc<Job>]) -> Result<Vec<PreparedJob>, Problems> {
    let mut problems = Problems::default();
    let prepared =
        jobs.iter().filter_map(|job| problems.keep(job.prepare().map_err(Problems::from))).collect();
    if problems.refuse() { Err(problems) } else { Ok(prepared) }
}

impl Certificates {
    /// Starts tasks for new certificates, and aborts those of removed ones.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let jobs = snapshot.certificates.all();
        let living: HashSet<_> = jobs.iter().map(name).collect();
        self.tasks.retain(|job, (_, task)| {
            let lives = living.contains(job);
            if !lives {
                task.abort();
            }
            lives
        });
        for job in jobs {
            self.tasks.entry(name(job)).or_insert_with(|| {
                let (own, turn) = (Arc::clone(job), Arc::clone(&self.turn));
                let work = move || {
                    let (own, turn) = (Arc::clone(&own), Arc::clone(&turn));
                    async move { own.run(&turn).await }
                };
                let id = job.settings().id();
                let task = tokio::spawn(supervision::keep("certificate", id, BACKOFF, work));
                (Arc::clone(job), task)
            });
        }
    }
}
