//! Milliseconds since the first use of the clock: small enough for half of an atomic word.

use std::sync::OnceLock;
use std::time::Instant;

/// Milliseconds since the first call, starting at 1: 0 is free to mean "never".
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
}
