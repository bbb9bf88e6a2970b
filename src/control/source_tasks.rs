//! The tasks of sources of configuration: one for each source, kept over reloads that do not change it, and one that applies
//! their changes.

use super::{Live, ReloadCause};
use crate::runtime::supervision;
use crate::source::{QuietPeriod, Source, SourceSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// The running tasks.
#[derive(Default)]
pub(super) struct SourceTasks(Vec<(Arc<Source>, JoinHandle<()>)>);

impl SourceTasks {
    /// Starts the tasks of new sources, and returns these. `changes` is notified when a document has changed.
    pub(super) fn begin(&mut self, sources: &SourceSet, changes: &Arc<Notify>) -> Vec<Arc<Source>> {
        let mut fresh = Vec::new();
        for source in sources.all() {
            if self.0.iter().any(|(known, _)| Arc::ptr_eq(known, source)) {
                continue;
            }
            let (own, changes) = (Arc::clone(source), Arc::clone(changes));
            let work = move || run(Arc::clone(&own), Arc::clone(&changes));
            self.0.push((Arc::clone(source), supervision::spawn("source", &**source.origin(), work)));
            fresh.push(Arc::clone(source));
        }
        fresh
    }

    /// Ends the tasks of sources that are not among these.
    pub(super) fn end_all_but(&mut self, sources: &SourceSet) {
        self.0.retain(|(source, task)| {
            let is_used = sources.all().any(|used| Arc::ptr_eq(used, source));
            if !is_used {
                task.abort();
            }
            is_used
        });
    }
}

async fn run(source: Arc<Source>, changes: Arc<Notify>) {
    let forward = async {
        loop {
            source.feed().changed().await;
            changes.notify_one();
        }
    };
    tokio::select! {
        () = Arc::clone(&source).run() => {}
        () = forward => {}
    }
}

/// Waits until the first read of each source has ended, at most for `longest`.
pub(super) async fn first_answers(fresh: &[Arc<Source>], longest: Duration) {
    let all = async {
        for source in fresh {
            source.feed().first_answer().await;
        }
    };
    // After it the generation has the documents that are known.
    let _ = timeout(longest, all).await;
}

/// Applies changes of documents as long as there is a gateway.
pub(super) async fn keep(live: Weak<Live>) {
    loop {
        let Some(changes) = live.upgrade().map(|live| Arc::clone(&live.source_changes)) else { return };
        changes.notified().await;
        let mut quiet = QuietPeriod::begin(Instant::now());
        loop {
            tokio::select! {
                biased;
                () = sleep_until(quiet.end()) => break,
                () = changes.notified() => quiet.extend(Instant::now()),
            }
        }
        let Some(live) = live.upgrade() else { return };
        // The log and the history have the outcome.
        let _ = live.reload(ReloadCause::Source).await;
    }
}
