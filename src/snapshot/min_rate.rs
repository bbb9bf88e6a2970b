//! The minimum rate of a client's transfer.

use crate::config;
use std::num::NonZeroU64;
use std::time::Duration;

/// The minimum rate of a client's transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes per second.
    rate: NonZeroU64,
    /// How long a transfer may be slower at its beginning.
    pub grace: Duration,
}

impl MinRate {
    /// A rate in bytes per second; `None` for 0, which means no limit.
    pub fn new(rate: u64, grace: Duration) -> Option<Self> {
        Some(Self { rate: NonZeroU64::new(rate)?, grace })
    }

    pub(super) fn of(written: config::MinRate) -> Option<Self> {
        let parts = written.parts();
        Self::new(parts.rate.0, parts.grace.0)
    }

    /// The maximum time for this number of bytes.
    pub fn time_of(self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
