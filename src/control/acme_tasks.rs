//! Certificates that the gateway gets by itself: one task each, kept over reloads as the certificate is.

use crate::acme::{Job, Prepared};
use crate::runtime::supervision::{self, Backoff};
use crate::snapshot::Snapshot;
use moongate_config::Problems;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The wait before work that panicked is begun again: what it asked of the authority may have counted there.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(15 * 60), longest: Duration::from_secs(2 * 60 * 60) };

/// The running tasks, by the certificate they belong to. It is held, so that its address is not given to
/// another while it is a key.
#[derive(Default)]
pub(super) struct Certificates {
    tasks: HashMap<usize, (Arc<Job>, JoinHandle<()>)>,
    /// Whose turn it is to ask an authority.
    turn: Arc<Mutex<()>>,
}

/// A certificate's name among the tasks: its address, which is never followed.
fn name(job: &Arc<Job>) -> usize {
    Arc::as_ptr(job).addr()
}

/// Reads what is kept of a generation's certificates, and sees whether their folders can be written to. Changes nothing.
/// It waits for disks.
///
/// # Errors
/// Every folder that cannot be used.
pub(super) fn prepare(jobs: &[Arc<Job>]) -> Result<Vec<Prepared>, Problems> {
    let mut problems = Problems::default();
    let prepared =
        jobs.iter().filter_map(|job| problems.keep(job.prepare().map_err(Problems::from))).collect();
    if problems.refuse() { Err(problems) } else { Ok(prepared) }
}

impl Certificates {
    /// Begins the work for certificates that are new in this generation, and ends that for those it no
    /// longer has.
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
