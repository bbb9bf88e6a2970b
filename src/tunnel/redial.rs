//! Interface for failover: a tunnel whose backend is lost asks its [`Redial`] for another one. The proxy
//! implements it, including the selection of an endpoint and the handshake.

use super::{Counters, Reason, TunnelGuard, TunnelIo};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How a backend was lost, and the time limit for finding another one.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The reason.
    pub reason: Reason,
    /// The search ends within this time.
    pub limit: Duration,
}

/// A backend that negotiated the same as the first one.
pub struct Found {
    /// The connection.
    pub backend: TunnelIo,
    /// The bytes that it sent after its 101.
    pub early: Bytes,
    /// The endpoint's number, for the registry.
    pub endpoint: u64,
    /// The counters.
    pub counters: Counters,
    /// Dropped when the backend is lost or the tunnel ends: the lease of the endpoint.
    pub guard: Box<dyn TunnelGuard>,
}

/// A search in progress. It returns the redialer for the next search.
pub type Search = Pin<Box<dyn Future<Output = (Box<dyn Redial>, Option<Found>)> + Send>>;

/// Finds other backends, with the client's original handshake.
pub trait Redial: Send {
    /// Finds one, or none within the time limit. Dropping the future cancels the search.
    fn redial(self: Box<Self>, loss: Loss) -> Search;

    /// What a redialer of another process needs to continue as this one; `None` if no other one can.
    fn state(&self) -> Option<serde_json::Value>;
}
