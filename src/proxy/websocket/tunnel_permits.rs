//! Permits that a client holds while its WebSocket lives.

use crate::tunnel::Permit;
use tokio::sync::OwnedSemaphorePermit;

/// Where a client counts while its WebSocket lives.
pub(in crate::proxy) struct TunnelPermits {
    /// In the limits of its route.
    pub(in crate::proxy) _permit: Permit,
    /// In the limit of its listener, with HTTP/1.1: a stream of HTTP/2 counts with its connection.
    pub(in crate::proxy) _room: Option<OwnedSemaphorePermit>,
}
