//! The end of the process in time, whatever hangs: a thread of its own ends it when everything else had its time.
//!
//! In the usual case the process has ended long before. Without it a task that never returns on the runtime of reloads
//! would hold the process for ever, for timers stop with that runtime.

use super::signal_request::Ask;
use crate::control::Live;
use crate::telemetry::process_log;
use log::error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// What ending may take beyond the grace period: the last log lines, the workers' last turns.
const MARGIN: Duration = Duration::from_secs(5);

/// The same after a signal that says at once.
const MARGIN_AT_ONCE: Duration = Duration::from_secs(2);

/// For the lines of the logs when the process is ended so.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Ends the process a while after it was asked to end.
pub(super) struct Deadline {
    live: Arc<Live>,
    moments: Sender<Instant>,
    drains: bool,
    ends: bool,
}

impl Deadline {
    /// Its thread is there from now on: when the end is asked for, there may be none to be had.
    ///
    /// # Errors
    /// When there is none now.
    pub(super) fn new(live: Arc<Live>) -> io::Result<Self> {
        let (moments, earlier) = mpsc::channel();
        let watched = Arc::clone(&live);
        thread::Builder::new().name("deadline".to_owned()).spawn(move || watch(&watched, &earlier))?;
        Ok(Self { live, moments, drains: false, ends: false })
    }

    /// Notes a signal. The first one that asks for a drain begins the time for it, the next one ends it.
    pub(super) fn asked(&mut self, ask: Ask) {
        let limit = match ask {
            Ask::Reload => return,
            Ask::Drain if !self.drains => {
                self.drains = true;
                let snapshot = self.live.look();
                let grace = snapshot.terms.drain_delay.saturating_add(snapshot.terms.grace_period);
                grace.saturating_add(MARGIN)
            }
            Ask::Drain | Ask::Stop if self.ends => return,
            Ask::Drain | Ask::Stop => {
                self.ends = true;
                MARGIN_AT_ONCE
            }
        };
        // A grace period that no clock reaches has no end.
        if let Some(moment) = Instant::now().checked_add(limit) {
            let _ = self.moments.send(moment);
        }
    }
}

/// Ends the process at the earliest of the moments that it is told.
fn watch(live: &Live, moments: &Receiver<Instant>) {
    let Ok(mut end_at) = moments.recv() else { return };
    loop {
        match moments.recv_timeout(end_at.saturating_duration_since(Instant::now())) {
            Ok(moment) => end_at = end_at.min(moment),
            Err(RecvTimeoutError::Timeout) => end(live),
            // Nobody tells of another one.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(end_at.saturating_duration_since(Instant::now()));
                end(live);
            }
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
