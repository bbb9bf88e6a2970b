//! The end of the process in time, whatever hangs: a thread of its own ends it when everything else had its time.
//!
//! In the usual case the process has ended long before. Without it a task that never returns on the runtime of reloads
//! would hold the process for ever, for timers stop with that runtime.

use super::signals::Ask;
use crate::live::Live;
use crate::telemetry::process_log;
use log::error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What ending may take beyond the grace period, and after a signal that says at once: the last log lines, the workers'
/// last turns.
const MARGIN: Duration = Duration::from_secs(5);

/// For the lines of the logs when the process is ended so.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Ends the process a while after it was asked to end.
pub(super) struct Deadline {
    live: Arc<Live>,
    drains: bool,
    ends: bool,
}

impl Deadline {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live, drains: false, ends: false }
    }

    /// Notes a signal. The first one that asks for a drain begins the time for it, the next one ends it.
    pub(super) fn asked(&mut self, ask: Ask) {
        let limit = match ask {
            Ask::Reload => return,
            Ask::Drain if !self.drains => {
                self.drains = true;
                let snapshot = self.live.look();
                snapshot.terms.drain_delay.saturating_add(snapshot.terms.grace_period)
            }
            Ask::Drain | Ask::Stop if self.ends => return,
            Ask::Drain | Ask::Stop => {
                self.ends = true;
                Duration::ZERO
            }
        };
        let live = Arc::clone(&self.live);
        let work = move || {
            thread::sleep(limit.saturating_add(MARGIN));
            end(&live);
        };
        if let Err(error) = thread::Builder::new().name("deadline".to_owned()).spawn(work) {
            error!(error:%; "no thread watches over the end of the process");
        }
    }
}

/// Ends the process where it is. The only place that does.
fn end(live: &Live) -> ! {
    error!("something hangs: the process ends without it");
    if let Some(log) = live.look().log.clone() {
        log.close(LAST_LINES);
    }
    process_log::flush(LAST_LINES);
    // Without handlers and destructors: one of them may be what hangs.
    signal_hook::low_level::exit(1)
}
