//! The wall clock as certificates and tickets count it.

use std::time::{Duration, SystemTime};

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs) as i64
}
