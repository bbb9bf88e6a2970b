//! Departure of tunnels to another process: the order, and what a stopped tunnel gives away.

use super::TunnelOrigin;
use super::state::TunnelState;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::oneshot;

/// Asks a tunnel to depart. It is dropped by a tunnel that cannot.
pub type DepartureOrder = Sender<Departure>;

/// A stopped tunnel. It continues where it is unless the departure is confirmed.
pub struct Departure {
    /// Its ID.
    pub id: u64,
    /// The number of the configuration under which it was opened.
    pub generation: u64,
    /// The name of its route.
    pub route: Arc<str>,
    /// The name of its client's listener.
    pub listener: Arc<str>,
    /// Its request.
    pub origin: Option<Arc<dyn TunnelOrigin>>,
    /// Its state.
    pub state: TunnelState,
    /// Descriptors of its connections, the client's first.
    pub sockets: [OwnedFd; 2],
    /// Sends whether the other process has it.
    pub confirm: oneshot::Sender<bool>,
}
