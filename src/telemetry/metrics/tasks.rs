//! Long-lived tasks of the process that had to be started again.

use super::exposition::Exposition;
use super::names;
use parking_lot::Mutex;

/// How often each kind of task was started again after a panic.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<Vec<(&'static str, u64)>>);

impl Tasks {
    /// A task of this kind is started again.
    pub fn restarted(&self, task: &'static str) {
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
