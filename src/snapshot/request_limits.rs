//! Limits of a client's requests, which its connection keeps. They are shared, so that an idle connection is small.

use super::min_rate::MinRate;
use std::time::Duration;

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From a header's first incomplete read to its end; 408 above it (RFC 9110 §15.5.9).
    pub time: Duration,
    /// The header size in bytes; a header without an end within twice as many gets 431 (RFC 6585 §5).
    pub size: usize,
    /// The minimum rate of a body; 408 below it.
    pub body_rate: Option<MinRate>,
    /// The minimum rate at which a response is read.
    pub send_rate: Option<MinRate>,
}
