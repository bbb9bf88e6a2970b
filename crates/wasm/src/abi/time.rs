//! Host functions for the current time and the tick period.

use crate::memory::{Call, put};
use crate::status::HostResult;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The shortest tick period.
const SHORTEST: Duration = Duration::from_millis(10);

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn current_time(call: &mut Call<'_>, at: i32) -> HostResult {
    put(call, at, &now().to_le_bytes())
}

pub(super) fn set_tick_period(call: &mut Call<'_>, period: i32) -> HostResult {
    let period = Duration::from_millis(u64::from(period.cast_unsigned()));
    let host = call.data_mut();
    host.tick = (!period.is_zero()).then(|| period.max(SHORTEST));
    host.shared.ticks.notify_one();
    Ok(())
}
