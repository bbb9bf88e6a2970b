//! Restarts of long-lived tasks.

use super::exposition::Exposition;
use super::names;
use parking_lot::Mutex;

/// Restarts after a panic, by kind of task.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<Vec<(&'static str, u64)>>);

impl Tasks {
    /// Counts a restart of this kind of task.
    pub(crate) fn restarted(&self, task: &'static str) {
        let mut tasks = self.0.lock();
        match tasks.iter_mut().find(|(known, _)| *known == task) {
            Some((_, count)) => *count += 1,
            None => tasks.push((task, 1)),
        }
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (task, count) in &*self.0.lock() {
            scrape.counter(&names::TASK_RESTARTS, &[task], *count as f64);
        }
    }
}
