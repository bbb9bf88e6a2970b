//! Tunnel that moves between processes: what the old one sends of it, and its continuation in the new one.

mod adoption;

use super::Gateway;
use super::websocket::redial::RedialerState;
use super::websocket::tunnel_log::OriginState;
use super::websocket::tunnel_resources::ClientResourcesState;
use super::websocket::websocket_plugins::PluginsState;
use crate::net::connection_permit::ConnectionPermit;
use crate::tunnel::{Departure, DepartureState, PartStates, RawState, TunnelState};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The version of the state. One that an older binary must not continue gets a higher number: the second version has the
/// parts that the proxy has made, and the third one is a raw relay.
const VERSION: u32 = 3;
const WITH_PARTS: u32 = 2;
const FIRST_VERSION: u32 = 1;

/// A tunnel without its sockets.
#[derive(Clone, Deserialize, Serialize)]
pub struct MovedTunnel {
    /// Its ID in the old process.
    pub id: u64,
    #[serde(default)]
    version: u32,
    /// The name of the client's listener.
    #[serde(default)]
    pub listener: String,
    /// The number of the configuration under which it was opened.
    #[serde(default)]
    generation: u64,
    route: String,
    /// The version of the route; `None` means the current one.
    #[serde(default)]
    route_version: Option<u64>,
    origin: OriginState,
    /// The state of a WebSocket.
    #[serde(default)]
    tunnel: TunnelState,
    /// The protocol and the state of a raw relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<(Arc<str>, RawState)>,
    /// The states of its parts.
    #[serde(default)]
    client: ClientResourcesState,
    #[serde(default)]
    redial: Option<RedialerState>,
    #[serde(default)]
    inspector: Option<PluginsState>,
    #[serde(default)]
    recheck: Option<PluginsState>,
}

impl MovedTunnel {
    /// What a stopped tunnel is in another process; `None` for one without a request.
    pub fn of(departure: &Departure) -> Option<Self> {
        let origin = departure.origin.as_ref()?.state();
        let PartStates { guard, redial, inspector, recheck } = departure.parts.clone();
        let redial = read::<RedialerState>(redial)?;
        let own: Option<ClientResourcesState> = serde_json::from_value(guard).ok()?;
        let client = redial.as_ref().map_or_else(|| own.unwrap_or_default(), |redial| redial.client.clone());
        let (inspector, recheck) = (read(inspector)?, read(recheck)?);
        let has_parts = redial.is_some()
            || inspector.is_some()
            || recheck.is_some()
            || client != ClientResourcesState::default();
        let (tunnel, raw) = match &departure.state {
            DepartureState::WebSocket(state) => ((**state).clone(), None),
            DepartureState::Raw(state) => {
                (TunnelState::default(), Some((departure.protocol.clone()?, (**state).clone())))
            }
        };
        let version = match (&raw, has_parts) {
            (Some(_), _) => VERSION,
            (None, true) => WITH_PARTS,
            (None, false) => FIRST_VERSION,
        };
        Some(Self {
            id: departure.id,
            version,
            listener: departure.listener.to_string(),
            generation: departure.generation,
            route: departure.route.to_string(),
            route_version: Some(departure.route_version),
            origin: serde_json::from_value(origin).ok()?,
            tunnel,
            raw,
            client,
            redial,
            inspector,
            recheck,
        })
    }

    /// Continues it in this process. Call it on a worker.
    ///
    /// # Errors
    /// Why it cannot continue here; nothing was read or written.
    pub fn adopt(
        self,
        gateway: &Gateway,
        sockets: [OwnedFd; 2],
        connection: ConnectionPermit,
    ) -> Result<(), String> {
        if self.version > VERSION {
            return Err(format!("its state has version {}, and this binary knows {VERSION}", self.version));
        }
        if self.raw.is_some() {
            adoption::adopt_raw(self, gateway, sockets, connection)
        } else {
            adoption::adopt_websocket(self, gateway, sockets, connection)
        }
    }
}

/// A part that this binary has written; `Some(None)` without one.
fn read<T: serde::de::DeserializeOwned>(state: Option<serde_json::Value>) -> Option<Option<T>> {
    state.map_or(Some(None), |state| serde_json::from_value(state).ok().map(Some))
}
