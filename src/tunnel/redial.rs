//! What a tunnel asks for when its backend is lost. Which endpoints there are, how one is chosen and how
//! a handshake is repeated stays out: whoever has led the tunnel here brings a [`Redial`].

use super::{Counters, Reason, TunnelIo};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How a backend was lost, and how long another one may be looked for.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// How it was lost.
    pub reason: Reason,
    /// The search is over within this time, whatever it finds.
    pub limit: Duration,
}

/// A backend that agreed to what the client was told by the first one.
pub struct Found {
    /// Its side.
    pub backend: TunnelIo,
    /// What it sent behind its 101.
    pub early: Bytes,
    /// Its endpoint, for the registry.
    pub endpoint: u64,
    /// Its counters.
    pub counters: Counters,
    /// Dropped when it is lost or the tunnel ends: the lease of the endpoint.
    pub guard: Box<dyn Send>,
}

/// A search under way. It gives back who searches, for the next time.
pub type Search = Pin<Box<dyn Future<Output = (Box<dyn Redial>, Option<Found>)> + Send>>;

/// Looks for other backends, with the client's own handshake.
pub trait Redial: Send {
    /// Looks for one; none is found when the time is over. Dropping the future ends the search.
    fn redial(self: Box<Self>, loss: Loss) -> Search;
}
