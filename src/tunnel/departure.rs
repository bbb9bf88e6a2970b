//! Departure of tunnels to another process: the order, and what a stopped tunnel gives away.

use super::TunnelOrigin;
use super::raw_state::RawState;
use super::state::TunnelState;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::oneshot;

/// Asks a tunnel to depart. It is dropped by a tunnel that cannot.
pub type DepartureOrder = Sender<Departure>;

/// States of the parts of a tunnel that the proxy has made, for another process. Only the proxy reads them.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PartStates {
    /// The guard.
    pub guard: serde_json::Value,
    /// The redialer.
    pub redial: Option<serde_json::Value>,
    /// The inspector.
    pub inspector: Option<serde_json::Value>,
    /// The rechecks.
    pub recheck: Option<serde_json::Value>,
}

/// The resources of a tunnel outside the relay, released when it is dropped: the lease of the endpoint, permits.
pub trait TunnelGuard: Send {
    /// What another process needs to acquire them again.
    fn state(&self) -> serde_json::Value;
}

impl TunnelGuard for () {
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// The state of a stopped tunnel.
pub enum DepartureState {
    /// That of a WebSocket.
    WebSocket(Box<TunnelState>),
    /// That of a raw relay.
    Raw(Box<RawState>),
}

/// A stopped tunnel. It continues where it is unless the departure is confirmed.
pub struct Departure {
    /// Its ID.
    pub id: u64,
    /// The number of the configuration under which it was opened.
    pub generation: u64,
    /// The name of its route.
    pub route: Arc<str>,
    /// The version of the route with which it was opened.
    pub route_version: u64,
    /// The name of its client's listener.
    pub listener: Arc<str>,
    /// The protocol of a raw relay; `None` for a WebSocket.
    pub protocol: Option<Arc<str>>,
    /// Its request.
    pub origin: Option<Arc<dyn TunnelOrigin>>,
    /// Its state.
    pub state: DepartureState,
    /// The states of its guard, and of its redialer, inspector and rechecks if it has them.
    pub parts: PartStates,
    /// Descriptors of its connections, the client's first.
    pub sockets: [OwnedFd; 2],
    /// Sends whether the other process has it.
    pub confirm: oneshot::Sender<bool>,
}
