//! Shutdown deadline: a thread of its own ends the process if anything hangs after the grace period.
//!
//! Usually the process has ended before. Without the deadline, a task that blocks the runtime of reloads
//! would hang the process, since the timers of that runtime stop too.

use super::handover::Succession;
use super::signal_request::Ask;
use crate::control::Live;
use crate::telemetry::process_log;
use log::error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The time beyond the grace period for the last log lines and the workers.
const MARGIN: Duration = Duration::from_secs(5);

/// The same after a signal to stop at once.
const MARGIN_AT_ONCE: Duration = Duration::from_secs(2);

/// The time limit for the log lines when the deadline ends the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Ends the process after a time limit.
pub(super) struct Deadline {
    live: Arc<Live>,
    moments: Sender<Instant>,
    drains: bool,
    ends: bool,
    /// Whether a signal to drain is still to come, for what this process does already.
    expects_drain: bool,
}

impl Deadline {
    /// Starts the thread in advance: at the deadline the system may have none left.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new(live: Arc<Live>) -> io::Result<Self> {
        let (moments, earlier) = mpsc::channel();
        let watched = Arc::clone(&live);
        thread::Builder::new().name("deadline".to_owned()).spawn(move || watch(&watched, &earlier))?;
        Ok(Self { live, moments, drains: false, ends: false, expects_drain: false })
    }

    /// Records the end of a handover, with which a drain starts. Returns how many signals to drain ask for what this process
    /// does already: one that came before the end was recorded, or else, in a restart, that of the service manager, which
    /// follows.
    pub(super) fn handed_over(&mut self, succession: Succession) -> usize {
        if self.drains {
            return 1;
        }
        self.asked(Ask::Leave);
        self.expects_drain = succession == Succession::UntilRestart;
        usize::from(self.expects_drain)
    }

    /// Records a signal. The first one that starts a drain sets the deadline, the next one moves it earlier.
    pub(super) fn asked(&mut self, ask: Ask) {
        let limit = match ask {
            Ask::Reload | Ask::Upgrade => return,
            Ask::Drain if std::mem::take(&mut self.expects_drain) => return,
            Ask::Drain | Ask::Leave if !self.drains => {
                self.drains = true;
                let snapshot = self.live.look();
                let delay = if ask == Ask::Drain { snapshot.globals.drain_delay } else { Duration::ZERO };
                delay.saturating_add(snapshot.globals.grace_period).saturating_add(MARGIN)
            }
            Ask::Leave => return,
            Ask::Drain | Ask::Stop if self.ends => return,
            Ask::Drain | Ask::Stop => {
                self.ends = true;
                MARGIN_AT_ONCE
            }
        };
        // A grace period beyond the clock's range has no deadline.
        if let Some(moment) = Instant::now().checked_add(limit) {
            let _ = self.moments.send(moment);
        }
    }
}

/// Ends the process at the earliest of the received times.
fn watch(live: &Live, moments: &Receiver<Instant>) {
    let Ok(mut end_at) = moments.recv() else { return };
    loop {
        match moments.recv_timeout(end_at.saturating_duration_since(Instant::now())) {
            Ok(moment) => end_at = end_at.min(moment),
            Err(RecvTimeoutError::Timeout) => end(live),
            // No earlier deadline can be set any more.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(end_at.saturating_duration_since(Instant::now()));
                end(live);
            }
        }
    }
}

/// Ends the process immediately. The only place that does.
fn end(live: &Live) -> ! {
    error!("shutdown deadline exceeded; process exits");
    if let Some(log) = live.look().log.clone() {
        log.close(LAST_LINES);
    }
    process_log::flush(LAST_LINES);
    // Without exit handlers and destructors: one of them may be what hangs.
    signal_hook::low_level::exit(1)
}
