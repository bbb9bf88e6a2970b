//! WebSocket that moves between processes: what the old one sends of it, and its continuation in the new one.

use super::redial::{Redialer, RedialerState};
use super::tunnel_log::OriginState;
use super::tunnel_permits::TunnelPermits;
use super::tunnel_resources::{ClientResourcesState, TunnelGuards};
use super::tunnel_task::TunnelEnd;
use super::websocket_plugins::{PluginsState, TunnelPlugins};
use crate::net::connection_permit::ConnectionPermit;
use crate::proxy::Gateway;
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::{
    self, ClientKey, Counters, Departure, DepartureState, PartStates, Redial, Tunnel, TunnelIo, TunnelKey,
    TunnelState,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The version of the state. One that an older binary must not continue gets a higher number: the second version has the
/// parts that the proxy has made, which the first one lacks.
const VERSION: u32 = 2;
const FIRST_VERSION: u32 = 1;

/// A WebSocket without its sockets.
#[derive(Clone, Deserialize, Serialize)]
pub struct MovedWebSocket {
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
    tunnel: TunnelState,
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

impl MovedWebSocket {
    /// What a stopped tunnel is in another process; `None` for one without a request.
    pub fn of(departure: &Departure) -> Option<Self> {
        let DepartureState::WebSocket(tunnel) = &departure.state else { return None };
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
        Some(Self {
            id: departure.id,
            version: if has_parts { VERSION } else { FIRST_VERSION },
            listener: departure.listener.to_string(),
            generation: departure.generation,
            route: departure.route.to_string(),
            route_version: Some(departure.route_version),
            origin: serde_json::from_value(origin).ok()?,
            tunnel: (**tunnel).clone(),
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
        let Self { id, version, listener, generation, route, origin: request, tunnel: mut state, .. } = self;
        if version > VERSION {
            return Err(format!("its state has version {version}, and this binary knows {VERSION}"));
        }
        if !state.is_valid() {
            return Err("its state is invalid".to_owned());
        }
        let listener: Arc<str> = listener.into();
        let snapshot = gateway.shared.live.pin();
        let route = snapshot.route(&route).ok_or_else(|| format!("there is no route `{route}`"))?;
        let lease = snapshot
            .cluster(&request.upstream)
            .and_then(|cluster| cluster.lease_of(&request.endpoint))
            .ok_or_else(|| format!("there is no endpoint {} of {}", request.endpoint, request.upstream))?;
        let [client, backend] = sockets.map(tunnel_io);
        let failed = |error: io::Error| format!("a socket cannot be used: {error}");
        let sides = state.connect([client.map_err(failed)?, backend.map_err(failed)?]);
        let [client, backend] = sides.ok_or("its TLS state is invalid")?;
        let identity = request.client();
        let network = snapshot.globals.client_prefix.identity(identity.address());
        let plugins = TunnelPlugins::restore(self.inspector, self.recheck, state.inspected(), gateway, route);
        let plugins = plugins.ok_or_else(|| format!("the route `{}` has other plugins now", route.name))?;
        let permit = route.policy.readmit(self.client.permit_key, ClientKey::Client(network));
        let origin = request.restore(&route.name, lease.endpoint(), snapshot.log.as_ref());
        let key = TunnelKey {
            endpoint: lease.endpoint().token().get(),
            route: Arc::clone(&route.name),
            route_version: self.route_version.unwrap_or_else(|| route.route_version()),
            generation,
            listener: Arc::clone(&listener),
            protocol: None,
            origin: Some(Arc::clone(&origin) as _),
            drain_part: state.drain_part(),
            connection: None,
        };
        let member = gateway.shared.tunnels.join_as(key, id);
        let counters = Counters::new(TunnelMetrics::adopt(&route.metrics.route, lease.endpoint().metrics()));
        let permits = TunnelPermits { permit, _connection: Some(connection) };
        let resources = self.client.restore(permits, &gateway.shared);
        let trace = resources.trace.clone();
        let (client_resources, redial) = match self.redial {
            Some(state) if route.policy.reconnect.is_some() => {
                let redialer = Redialer::restore(state, gateway, &origin, route, resources, listener);
                let redialer = redialer.ok_or("its handshake is invalid")?;
                (None, Some(Box::new(redialer) as Box<dyn Redial>))
            }
            // Its route has no failover any more.
            _ => (Some(resources), None),
        };
        let tunnel = Tunnel {
            client,
            backend,
            client_early: Bytes::new(),
            backend_early: Bytes::new(),
            extensions: Default::default(),
            policy: Arc::clone(&route.policy),
            counters,
            member,
            guard: Box::new(TunnelGuards { _lease: lease, client: client_resources }),
            redial,
            inspector: plugins.inspector,
            recheck: plugins.recheck,
        };
        let is_continued = match TunnelEnd::of(origin, plugins.final_log_fields, trace) {
            TunnelEnd::Plain(origin) => {
                tunnel::continue_from(tunnel, state, move |outcome| origin.end(outcome, &[]))
            }
            TunnelEnd::Observed(observers) => {
                tunnel::continue_from(tunnel, state, move |outcome| observers.end(outcome))
            }
        };
        if is_continued { Ok(()) } else { Err("its state is invalid".to_owned()) }
    }
}

/// A part that this binary has written; `Some(None)` without one.
fn read<T: serde::de::DeserializeOwned>(state: Option<serde_json::Value>) -> Option<Option<T>> {
    state.map_or(Some(None), |state| serde_json::from_value(state).ok().map(Some))
}

fn tunnel_io(socket: OwnedFd) -> io::Result<TunnelIo> {
    let is_unix = SockRef::from(&socket).local_addr()?.is_unix();
    Ok(if is_unix {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        TunnelIo::Unix(tokio::net::UnixStream::from_std(stream)?)
    } else {
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        TunnelIo::Tcp(tokio::net::TcpStream::from_std(stream)?)
    })
}
