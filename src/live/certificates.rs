//! Certificates that the gateway gets by itself: one task each, kept over reloads as the certificate is.

use crate::acme::Job;
use crate::snapshot::Snapshot;
use log::error;
use moongate_sdk::Problems;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// The wait before work that panicked is begun again: what it asked of the authority may have counted there.
const WAIT: Duration = Duration::from_secs(15 * 60);

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

/// Makes the folders of a generation's certificates and loads what is there. It waits for disks.
///
/// # Errors
/// Every folder that cannot be written to.
pub(super) fn open(jobs: &[Arc<Job>]) -> Result<(), Problems> {
    let mut problems = Problems::default();
    for job in jobs {
        problems.keep(job.open().map_err(Problems::from));
    }
    if problems.refuse() { Err(problems) } else { Ok(()) }
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
                let task = tokio::spawn(keep(Arc::clone(job), Arc::clone(&self.turn)));
                (Arc::clone(job), task)
            });
        }
    }
}

/// Does the work; after a panic again, and much later.
async fn keep(job: Arc<Job>, turn: Arc<Mutex<()>>) {
    loop {
        // It ends with this task.
        let mut work = JoinSet::new();
        let (own, turn) = (Arc::clone(&job), Arc::clone(&turn));
        work.spawn(async move { own.run(&turn).await });
        work.join_next().await;
        let certificate = job.settings().id();
        error!(
            certificate = certificate.as_str(), again_in_seconds = WAIT.as_secs();
            "the work for a certificate panicked"
        );
        tokio::time::sleep(WAIT).await;
    }
}
