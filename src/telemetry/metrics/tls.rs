//! TLS metrics of a listener: handshakes, and changes of certificate files.

use super::exposition::Exposition;
use super::names;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The TLS series of one listener, as long as its acceptor holds the handle.
#[derive(Debug)]
pub struct TlsMetrics {
    listener: Box<str>,
    /// By version, then by whether a session was resumed.
    handshakes: [[AtomicU64; 2]; 2],
    failures: Mutex<Vec<(&'static str, u64)>>,
    rotated: AtomicU64,
    not_rotated: AtomicU64,
}

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
const RESULTS: [&str; 2] = ["full", "resumed"];

impl TlsMetrics {
    /// The existing or new series of `listener`.
    pub fn of(listener: &str) -> Arc<Self> {
        super::global().tls(listener)
    }

    pub(super) fn new(listener: &str) -> Self {
        Self {
            listener: listener.into(),
            handshakes: Default::default(),
            failures: Mutex::default(),
            rotated: AtomicU64::new(0),
            not_rotated: AtomicU64::new(0),
        }
    }

    /// Counts a completed handshake.
    pub fn record_handshake(&self, version: &'static str, resumed: bool) {
        let version = usize::from(version == VERSIONS[1]);
        self.handshakes[version][usize::from(resumed)].fetch_add(1, Relaxed);
    }

    /// Counts a failed handshake, by a short constant reason.
    pub fn failed(&self, reason: &'static str) {
        let mut failures = self.failures.lock();
        match failures.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => failures.push((reason, 1)),
        }
    }

    /// Counts changed files that are now in use.
    pub fn rotated(&self) {
        self.rotated.fetch_add(1, Relaxed);
    }

    /// Counts changed files that were refused.
    pub fn not_rotated(&self) {
        self.not_rotated.fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (version, counts) in VERSIONS.iter().zip(&self.handshakes) {
            for (result, count) in RESULTS.iter().zip(counts) {
                let labels = [&*self.listener, result, version];
                scrape.counter(&names::TLS_HANDSHAKES, &labels, count.load(Relaxed) as f64);
            }
        }
        for (reason, count) in &*self.failures.lock() {
            scrape.counter(&names::TLS_HANDSHAKE_FAILURES, &[&self.listener, reason], *count as f64);
        }
        for (result, count) in [("taken", &self.rotated), ("refused", &self.not_rotated)] {
            scrape.counter(&names::TLS_ROTATIONS, &[&self.listener, result], count.load(Relaxed) as f64);
        }
    }
}
