//! Timer of a tunnel. It is rescheduled only after it fires: traffic only records times, so a busy tunnel
//! never touches the runtime's timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that fires at the requested time or earlier.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// The runtime holds the waker for the current deadline.
    armed: bool,
}

impl Timer {
    pub(super) fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(now)), armed: false }
    }

    /// The task's waker has changed.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Returns whether the timer is pending and registered.
    pub(super) fn is_running(&self) -> bool {
        self.armed && !self.sleep.is_elapsed()
    }

    /// Ensures that the task is woken at `deadline` or before, and after `now`.
    pub(super) fn wake_by(&mut self, deadline: Instant, now: Instant, cx: &mut Context<'_>) {
        let current = self.sleep.deadline();
        // A later deadline is set when the earlier one fires.
        if current > deadline || current <= now {
            self.sleep.as_mut().reset(deadline);
            self.armed = false;
        }
        if !self.armed {
            self.armed = self.sleep.as_mut().poll(cx).is_pending();
            if !self.armed {
                cx.waker().wake_by_ref();
            }
        }
    }
}
