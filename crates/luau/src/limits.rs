//! Limits of one worker's copy of a script.

use std::time::Duration;

/// The limits in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    /// Bytes.
    pub(crate) memory: usize,
    /// Bytes.
    pub(crate) body: usize,
}
