//! Waiting for facts. The only place of the tests that sleeps, and never to let time pass: it polls until the
//! fact is true or the limit is reached.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The time limit for any fact. Far above the usual time, so that a slow machine fails no test.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);

/// Polls until there is a result. Panics with `what` after [`LIMIT`].
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, what, ask)
}

/// Polls until there is a result. Panics with `what` after `limit`.
pub(crate) fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Blocks threads until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Releases all waiting threads, now and later.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Blocks the caller until the gate opens, at most for `limit`.
    pub(crate) fn pass_within(&self, limit: Duration) {
        self.is_open_within(limit);
    }

    /// As [`Gate::pass_within`]; returns whether the gate is open.
    pub(crate) fn is_open_within(&self, limit: Duration) -> bool {
        let open = self.open.lock().unwrap();
        *self.opened.wait_timeout_while(open, limit, |open| !*open).unwrap().0
    }
}
