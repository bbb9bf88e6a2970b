//! Timer of a tunnel. It is set anew only after it fires: traffic only records times, so a busy tunnel never
//! touches the worker's timers.

use crate::runtime::worker_timer::WorkerTimer;
use std::task::Context;
use tokio::time::Instant;

/// A timer that fires at the requested time, or at one that was requested before.
#[derive(Debug, Default)]
pub(in crate::tunnel) struct Timer {
    timer: WorkerTimer,
    /// The task's waker has changed since the timer was set.
    is_stale: bool,
}

impl Timer {
    /// The task's waker has changed.
    pub(in crate::tunnel) fn disarm(&mut self) {
        self.is_stale = true;
    }

    /// Returns whether the timer is set and has not fired.
    pub(in crate::tunnel) fn is_running(&self) -> bool {
        !self.is_stale && self.timer.is_pending()
    }

    /// Ensures that the task is woken at `deadline` or before.
    pub(in crate::tunnel) fn wake_by(&mut self, deadline: Instant, cx: &mut Context<'_>) {
        // A later deadline is set when the earlier one fires.
        let is_early_enough = self.timer.deadline().is_some_and(|current| current <= deadline);
        if !self.is_running() || !is_early_enough {
            self.timer.set(deadline, cx.waker());
            self.is_stale = false;
        }
    }
}
