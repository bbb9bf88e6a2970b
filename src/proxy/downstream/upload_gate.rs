//! State of a request body's reads: reading, waiting, or failing.

use std::sync::atomic::{AtomicU8, Ordering};

/// The effect of a read of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Gate {
    /// Reads.
    Open,
    /// Waits: the response is in progress.
    Paused,
    /// Fails: the response is complete.
    Ended,
}

/// The gate of one request body.
#[derive(Debug, Default)]
pub(in crate::proxy) struct UploadGate(AtomicU8);

impl UploadGate {
    pub(in crate::proxy) fn get(&self) -> Gate {
        match self.0.load(Ordering::Relaxed) {
            0 => Gate::Open,
            1 => Gate::Paused,
            _ => Gate::Ended,
        }
    }

    /// Reopens the gate for the next request.
    pub(in crate::proxy) fn reset(&self) {
        self.set(Gate::Open);
    }

    pub(in crate::proxy) fn set(&self, gate: Gate) {
        self.0.store(gate as u8, Ordering::Relaxed);
    }
}
