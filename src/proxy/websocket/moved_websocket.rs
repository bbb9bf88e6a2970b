//! WebSocket that moves between processes: what the old one sends of it, and its continuation in the new one.

use super::tunnel_log::OriginState;
use super::tunnel_permits::TunnelPermits;
use super::tunnel_task::TunnelGuards;
use crate::net::connection_permit::ConnectionPermit;
use crate::proxy::Gateway;
use crate::telemetry::metrics::TunnelMetrics;
use crate::tunnel::{self, ClientKey, Counters, Departure, Tunnel, TunnelIo, TunnelKey, TunnelState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The version of the state. One that an older binary must not continue gets a higher number.
const VERSION: u32 = 1;

/// A WebSocket without its sockets.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    origin: OriginState,
    tunnel: TunnelState,
}

impl MovedWebSocket {
    /// What a stopped tunnel is in another process; `None` for one without a request.
    pub fn of(departure: &Departure) -> Option<Self> {
        let origin = departure.origin.as_ref()?.state();
        Some(Self {
            id: departure.id,
            version: VERSION,
            listener: departure.listener.to_string(),
            generation: departure.generation,
            route: departure.route.to_string(),
            origin: serde_json::from_value(origin).ok()?,
            tunnel: departure.state.clone(),
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
        let Self { id, version, listener, generation, route, origin: request, tunnel: mut state } = self;
        if version > VERSION {
            return Err(format!("its state has version {version}, and this binary knows {VERSION}"));
        }
        if !state.is_valid() {
            return Err("its state is invalid".to_owned());
        }
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
        let permit = route.policy.readmit(ClientKey::Client(network));
        let origin = request.restore(&route.name, lease.endpoint(), snapshot.log.as_ref());
        let key = TunnelKey {
            endpoint: lease.endpoint().token().get(),
            route: Arc::clone(&route.name),
            route_version: route.route_version(),
            generation,
            listener: listener.into(),
            origin: Some(Arc::clone(&origin) as _),
            drain_part: state.drain_part(),
        };
        let member = gateway.shared.tunnels.join_as(key, id);
        let counters = Counters::new(TunnelMetrics::adopt(&route.metrics.route, lease.endpoint().metrics()));
        let place = TunnelPermits { _permit: permit, _connection: Some(connection) };
        let tunnel = Tunnel {
            client,
            backend,
            client_early: Bytes::new(),
            backend_early: Bytes::new(),
            extensions: Default::default(),
            policy: Arc::clone(&route.policy),
            counters,
            member,
            guard: Box::new(TunnelGuards { _lease: lease, _place: Some(place) }),
            redial: None,
            inspector: None,
            recheck: None,
            is_pinned: false,
        };
        tunnel::continue_from(tunnel, state, move |outcome| origin.end(outcome, &[]));
        Ok(())
    }
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
