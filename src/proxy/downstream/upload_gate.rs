//! The gate that a request body passes: whether a read of it reads, waits or fails.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a read of a request body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Gate {
    /// It reads.
    Open,
    /// It waits: the response is under way.
    Paused,
    /// It fails: the response is complete.
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

    /// Open again, for the next request.
    pub(in crate::proxy) fn reset(&self) {
        self.set(Gate::Open);
    }

    pub(in crate::proxy) fn set(&self, gate: Gate) {
        self.0.store(gate as u8, Ordering::Relaxed);
    }
}
