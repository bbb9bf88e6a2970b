//! Milliseconds of a clock that only advances.

use std::sync::OnceLock;
use std::time::Instant;

/// The first reading. Moments before it can be written too: with an upgrade, endpoints have joined in an earlier process.
const ORIGIN: u64 = 1 << 40;

/// Milliseconds since the first call, and [`ORIGIN`]: 0 is free to mean "never".
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_add(ORIGIN)
}
