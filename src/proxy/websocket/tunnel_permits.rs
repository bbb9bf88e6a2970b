//! Permits of a client's WebSocket in connection limits, released when it ends.

use crate::net::connection_permit::ConnectionPermit;
use crate::tunnel::Permit;

/// The permits of an open WebSocket.
pub(in crate::proxy) struct TunnelPermits {
    /// The permit of the route's limits.
    pub(in crate::proxy) permit: Permit,
    /// The permit of the listener's limit, with HTTP/1.1 only: an HTTP/2 stream counts with its connection.
    pub(in crate::proxy) _connection: Option<ConnectionPermit>,
}
