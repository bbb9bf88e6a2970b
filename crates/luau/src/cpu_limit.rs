//! CPU time limit of a call into a script. Luau asks at every loop iteration and call; most times the check costs
//! only a counter.
//!
//! The limit applies to the thread's CPU time, because on a busy machine a thread may wait for longer than a script
//! may run. That clock is a system call, so it is read only after half of the limit in wall-clock time.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The clock is read once in this many checks. A power of two.
const STRIDE: u32 = 4;

/// A clock value that has not been read yet.
const UNREAD: u64 = u64::MAX;

/// The clock of one VM, written only by the thread that runs it. All times in nanoseconds.
pub(crate) struct Clock {
    epoch: Instant,
    /// Half of the limit.
    half: u64,
    asked: AtomicU32,
    /// Since `epoch`; set by the first read, so that a short call never reads the clock.
    deadline: AtomicU64,
    /// The thread's CPU time when the deadline was first reached.
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

    /// Starts a call.
    pub(crate) fn start(&self) {
        self.asked.store(0, Relaxed);
        self.over.store(false, Relaxed);
    }

    /// Whether the call has exceeded its limit.
    pub(crate) fn tick(&self) -> bool {
        let asked = self.asked.load(Relaxed).wrapping_add(1);
        self.asked.store(asked, Relaxed);
        // A script that catches the error gets it again at its next step.
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

    /// Whether the thread used half of the limit in CPU time since the first check, which was after half of the
    /// limit in wall-clock time.
    fn has_worked(&self) -> bool {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let now = u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000
            + u64::try_from(time.tv_nsec).unwrap_or_default();
        match self.worked.load(Relaxed) {
            UNREAD => {
                self.worked.store(now, Relaxed);
                false
            }
            // By this clock a deadline may come slightly early: nine tenths suffice.
            before => now.saturating_sub(before) >= self.half / 10 * 9,
        }
    }

    /// Whether the last call exceeded its limit.
    pub(crate) fn ran_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
