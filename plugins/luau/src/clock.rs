//! How long a call into a script has been running. Luau asks at every loop and call; most times the
//! answer costs a counter and no look at the time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The time is looked at once in so many questions. A power of two.
const STRIDE: u32 = 4;

/// The stopwatch of one state. Only the thread that runs the state writes to it.
pub(crate) struct Clock {
    epoch: Instant,
    limit: Duration,
    asked: AtomicU32,
    /// Nanoseconds since `epoch`; set by the first look, so that a short call never looks.
    deadline: AtomicU64,
    over: AtomicBool,
}

impl Clock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            limit,
            asked: AtomicU32::new(0),
            deadline: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// A call begins.
    pub(crate) fn start(&self) {
        self.asked.store(0, Relaxed);
        self.over.store(false, Relaxed);
    }

    /// Whether the call has had its time.
    pub(crate) fn tick(&self) -> bool {
        let asked = self.asked.load(Relaxed).wrapping_add(1);
        self.asked.store(asked, Relaxed);
        // A script that catches the error meets it again at its next step.
        if self.over.load(Relaxed) {
            return true;
        }
        if asked % STRIDE != 0 {
            return false;
        }
        let now = nanos(self.epoch.elapsed());
        if asked == STRIDE {
            self.deadline.store(now.saturating_add(nanos(self.limit)), Relaxed);
            return false;
        }
        let over = now > self.deadline.load(Relaxed);
        if over {
            self.over.store(true, Relaxed);
        }
        over
    }

    /// Whether the call that just ended was ended by us.
    pub(crate) fn ran_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
