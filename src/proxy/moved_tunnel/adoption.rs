//! Continuation of a moved tunnel: its route and endpoint are found anew, and its permits are taken again whatever the
//! limits are now.

use super::MovedTunnel;
use crate::net::connection_permit::ConnectionPermit;
use crate::proxy::Gateway;
use crate::proxy::upgrades::raw_tunnel_start::RawTunnelEnd;
use crate::proxy::websocket::redial::Redialer;
use crate::proxy::websocket::tunnel_log::{Origin, OriginState};
use crate::proxy::websocket::tunnel_permits::TunnelPermits;
use crate::proxy::websocket::tunnel_resources::{ClientResources, ClientResourcesState, TunnelGuards};
use crate::proxy::websocket::tunnel_task::TunnelEnd;
use crate::proxy::websocket::websocket_plugins::TunnelPlugins;
use crate::snapshot::Route;
use crate::telemetry::metrics::{TunnelMetrics, UpgradeMetrics};
use crate::tunnel::{
    self, ClientKey, Counters, Membership, RawCounters, RawTunnel, Redial, Tunnel, TunnelIo, TunnelKey,
};
use crate::upstream::Lease;
use bytes::Bytes;
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What every tunnel needs to continue, besides its sockets and its state.
struct AdoptedParts {
    route: Arc<Route>,
    lease: Lease,
    origin: Arc<Origin>,
    member: Membership,
    resources: ClientResources,
    /// The key of the client in limits that a fleet shares, by its address.
    client_key: u128,
}

/// The identity of a moved tunnel.
struct MovedIdentity {
    id: u64,
    generation: u64,
    route_version: Option<u64>,
    listener: Arc<str>,
    protocol: Option<Arc<str>>,
    drain_part: Option<u32>,
}

/// Continues a WebSocket.
///
/// # Errors
/// Why it cannot continue here.
pub(super) fn adopt_websocket(
    moved: MovedTunnel,
    gateway: &Gateway,
    sockets: [OwnedFd; 2],
    connection: ConnectionPermit,
) -> Result<(), String> {
    let mut state = moved.tunnel;
    if !state.is_valid() {
        return Err("its state is invalid".to_owned());
    }
    let (route, lease) = find(gateway, &moved.route, &moved.origin)?;
    let sides = state.connect(tunnel_ios(sockets)?);
    let [client, backend] = sides.ok_or("its TLS state is invalid")?;
    let plugins = TunnelPlugins::restore(moved.inspector, moved.recheck, state.inspected(), gateway, &route);
    let plugins = plugins.ok_or_else(|| other_plugins(&route))?;
    let listener: Arc<str> = moved.listener.into();
    let identity = MovedIdentity {
        id: moved.id,
        generation: moved.generation,
        route_version: moved.route_version,
        listener: Arc::clone(&listener),
        protocol: None,
        drain_part: state.drain_part(),
    };
    let AdoptedParts { route, lease, origin, member, resources, client_key } =
        readmit(gateway, (route, lease), moved.origin, moved.client, connection, identity);
    let counters = Counters::new(TunnelMetrics::adopt(&route.metrics.route, lease.endpoint().metrics()));
    let trace = resources.trace.clone();
    let (client_resources, redial) = match moved.redial {
        Some(state) if route.policy.reconnect.is_some() => {
            let redialer = Redialer::restore(state, gateway, &origin, &route, resources, listener);
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
        client_key: Some(client_key),
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

/// Continues a raw relay.
///
/// # Errors
/// Why it cannot continue here.
pub(super) fn adopt_raw(
    moved: MovedTunnel,
    gateway: &Gateway,
    sockets: [OwnedFd; 2],
    connection: ConnectionPermit,
) -> Result<(), String> {
    let (protocol, mut state) = moved.raw.ok_or("it is no raw relay")?;
    let (route, lease) = find(gateway, &moved.route, &moved.origin)?;
    let sides = state.connect(tunnel_ios(sockets)?);
    let [client, backend] = sides.ok_or("its TLS state is invalid")?;
    let plugins = TunnelPlugins::restore(None, moved.recheck, [false; 2], gateway, &route);
    let recheck = plugins.ok_or_else(|| other_plugins(&route))?.recheck;
    let identity = MovedIdentity {
        id: moved.id,
        generation: moved.generation,
        route_version: moved.route_version,
        listener: moved.listener.into(),
        protocol: Some(Arc::clone(&protocol)),
        drain_part: state.drain_part(),
    };
    let AdoptedParts { route, lease, origin, member, resources, .. } =
        readmit(gateway, (route, lease), moved.origin, moved.client, connection, identity);
    let metrics = UpgradeMetrics::adopt(&route.metrics.route, lease.endpoint().metrics(), &protocol);
    let end = RawTunnelEnd { protocol, origin, trace: resources.trace.clone() };
    let tunnel = RawTunnel {
        client,
        backend,
        preface: Bytes::new(),
        client_early: Bytes::new(),
        backend_early: Bytes::new(),
        limits: route.policy.raw_limits(),
        counters: RawCounters::new(metrics),
        member,
        guard: Box::new(TunnelGuards { _lease: lease, client: Some(resources) }),
        recheck,
    };
    tunnel::continue_raw(tunnel, state, move |outcome| end.report(outcome));
    Ok(())
}

fn other_plugins(route: &Route) -> String {
    format!("the route `{}` has other plugins now", route.name)
}

/// The route and the endpoint in the current configuration.
fn find(gateway: &Gateway, route: &str, request: &OriginState) -> Result<(Arc<Route>, Lease), String> {
    let snapshot = gateway.shared.live.pin();
    let found = snapshot.route(route).ok_or_else(|| format!("there is no route `{route}`"))?;
    let lease = snapshot
        .cluster(&request.upstream)
        .and_then(|cluster| cluster.lease_of(&request.endpoint, request.uid.as_deref()))
        .ok_or_else(|| format!("there is no endpoint {} of {}", request.endpoint, request.upstream))?;
    Ok((Arc::clone(found), lease))
}

/// Counts the tunnel again, and adds it to the registry.
fn readmit(
    gateway: &Gateway,
    (route, lease): (Arc<Route>, Lease),
    request: OriginState,
    client: ClientResourcesState,
    connection: ConnectionPermit,
    identity: MovedIdentity,
) -> AdoptedParts {
    let snapshot = gateway.shared.live.pin();
    let known = request.client();
    let network = snapshot.globals.client_prefix.identity(known.address());
    let by_address = ClientKey::Client(network);
    let client_key = by_address.fleet_key();
    let permit = route.policy.readmit(client.permit_key, by_address);
    let origin = request.restore(&route.name, lease.endpoint(), snapshot.log.as_ref());
    let key = TunnelKey {
        endpoint: lease.endpoint().token().get(),
        route: Arc::clone(&route.name),
        route_version: identity.route_version.unwrap_or_else(|| route.route_version()),
        generation: identity.generation,
        listener: identity.listener,
        protocol: identity.protocol,
        origin: Some(Arc::clone(&origin) as _),
        drain_part: identity.drain_part,
        connection: None,
    };
    let member = gateway.shared.tunnels.join_as(key, identity.id);
    let permits = TunnelPermits { permit, _connection: Some(connection) };
    let resources = client.restore(permits, &gateway.shared);
    AdoptedParts { route, lease, origin, member, resources, client_key }
}

fn tunnel_ios([client, backend]: [OwnedFd; 2]) -> Result<[TunnelIo; 2], String> {
    let failed = |error: io::Error| format!("a socket cannot be used: {error}");
    Ok([tunnel_io(client).map_err(failed)?, tunnel_io(backend).map_err(failed)?])
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
