//! How long a call into a script has been running. Luau asks at every loop and call; most times the
//! answer costs a counter and no look at the time.
//!
//! What is limited is the thread's own time: on a busy machine a thread may be kept from running for longer
//! than a script may run. That clock is a system call, so it is read only once half the time has gone by.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The time is looked at once in so many questions. A power of two.
const STRIDE: u32 = 4;

/// What has not been read yet.
const UNREAD: u64 = u64::MAX;

/// The stopwatch of one state. Only the thread that runs the state writes to it. All times in nanoseconds.
pub(crate) struct Clock {
    epoch: Instant,
    /// Half of the limit.
    half: u64,
    asked: AtomicU32,
    /// Since `epoch`; set by the first look, so that a short call never looks.
    deadline: AtomicU64,
    /// The thread's time when the deadline first came.
    worked: AtomicU64,
    over: AtomicBool,
}

impl Clock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            half: nanos(limit) / 2,
            asked: AtomicU32::new(0),
            deadline: AtomicU64::new(0),
            worked: AtomicU64::new(UNREAD),
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
        if !asked.is_multiple_of(STRIDE) {
            return false;
        }
        let now = nanos(self.epoch.elapsed());
        if asked == STRIDE {
            self.worked.store(UNREAD, Relaxed);
        } else if now <= self.deadline.load(Relaxed) {
            return false;
        } else if self.has_worked() {
            self.over.store(true, Relaxed);
            return true;
        }
        self.deadline.store(now.saturating_add(self.half), Relaxed);
        false
    }

    /// Whether the thread has worked for half the limit since this was first asked, which was when half of
    /// it had gone by.
    fn has_worked(&self) -> bool {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let now = u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000
            + u64::try_from(time.tv_nsec).unwrap_or_default();
        match self.worked.load(Relaxed) {
            UNREAD => {
                self.worked.store(now, Relaxed);
                false
            }
            // A deadline may come a little early by this clock: nine tenths will do.
            before => now.saturating_sub(before) >= self.half / 10 * 9,
        }
    }

    /// Whether the call that just ended was ended by us.
    pub(crate) fn ran_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
