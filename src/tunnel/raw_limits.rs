//! Limits of a raw relay.

use crate::limit::Rates;
use std::time::Duration;

/// The limits of a raw relay. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawLimits {
    /// The maximum time without a byte in either direction.
    pub idle_timeout: Option<Duration>,
    /// The maximum age.
    pub max_age: Option<Duration>,
    /// The maximum random reduction of `max_age`.
    pub jitter: Duration,
    /// The maximum time without progress in writing to a side.
    pub write_timeout: Option<Duration>,
    /// The maximum time from the decision to end the relay to its end: for bytes that wait, and for the ends of the sides.
    pub close_timeout: Duration,
    /// The maximum rate of the client's bytes.
    pub rate: Option<Rates>,
}
