//! Open tunnel at one moment, as the admin API shows it.

use super::TunnelOrigin;
use std::sync::Arc;
use std::time::Duration;

/// An open tunnel at one moment.
#[derive(Clone)]
pub struct TunnelSnapshot {
    /// The number in the order in which tunnels joined: the ID of the tunnel in this process.
    pub id: u64,
    /// The current endpoint; 0 during a failover.
    pub endpoint: u64,
    /// The route's name.
    pub route: Arc<str>,
    /// The configuration under which it was opened.
    pub generation: u64,
    /// The time since it was opened.
    pub age: Duration,
    /// The time since the last data frame.
    pub idle: Duration,
    /// Messages (text and binary) from each side, by [`Side`](super::Side).
    pub messages: [u64; 2],
    /// Wire bytes from each side.
    pub bytes: [u64; 2],
    /// The last ping round trip of each side.
    pub round_trips: [Option<Duration>; 2],
    /// The protocol of a raw relay; `None` for a WebSocket.
    pub protocol: Option<Arc<str>>,
    /// Its request; `None` if it was not kept.
    pub origin: Option<Arc<dyn TunnelOrigin>>,
}
