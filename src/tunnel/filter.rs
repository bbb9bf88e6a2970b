//! The registry key of a tunnel, and the filters by which drains select tunnels.

use crate::upstream::Endpoint;
use moongate_sdk::ClientAddress;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Selects tunnels for a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All tunnels.
    All,
    /// Tunnels of an endpoint.
    Endpoint(u64),
    /// Tunnels of a route.
    Route(Arc<str>),
    /// Tunnels of a route whose clients have a connection for each.
    RouteAlone(Arc<str>),
    /// Tunnels of a route at an endpoint.
    RouteAt(Arc<str>, u64),
    /// Tunnels of a route that were opened under another version of it than this one.
    Outdated(Arc<str>, u64),
    /// Tunnels of a route whose clients connected to the listener with this name.
    RouteFrom(Arc<str>, Arc<str>),
}

/// The request of an open tunnel, as the admin API shows it.
pub trait TunnelOrigin: Send + Sync {
    /// The client.
    fn client(&self) -> ClientAddress<'_>;

    /// The current endpoint.
    fn endpoint(&self) -> Arc<Endpoint>;

    /// The requested host.
    fn host(&self) -> &[u8];

    /// Path and query as sent.
    fn path(&self) -> &[u8];

    /// The field `User-Agent`.
    fn user_agent(&self) -> &[u8];

    /// The field `Referer`.
    fn referer(&self) -> &[u8];

    /// The negotiated subprotocol; empty without one.
    fn subprotocol(&self) -> &str;

    /// Returns whether the fields of the request are kept.
    fn is_complete(&self) -> bool;

    /// The request for another process that continues the tunnel.
    fn state(&self) -> serde_json::Value;
}

/// The registry key of a new tunnel.
#[derive(Clone)]
pub struct TunnelKey {
    /// The endpoint's number, not 0.
    pub endpoint: u64,
    /// The route's name.
    pub route: Arc<str>,
    /// The route's version when the tunnel was opened.
    pub route_version: u64,
    /// The number of the configuration under which it was opened.
    pub generation: u64,
    /// The name of the client's listener.
    pub listener: Arc<str>,
    /// The protocol of a raw relay; `None` for a WebSocket.
    pub protocol: Option<Arc<str>>,
    /// Its request; `None` where nothing shows it.
    pub origin: Option<Arc<dyn TunnelOrigin>>,
    /// The fraction of a drain's window, in units of 2^-32, after which its session leaves; `None` without a
    /// session.
    pub drain_part: Option<u32>,
    /// The client's HTTP/2 connection, on which it may have other tunnels; `None` for a connection of its own.
    pub connection: Option<NonZeroUsize>,
}

/// The registry's view of an open tunnel.
#[derive(Clone, Copy, Debug)]
pub struct TunnelView<'a> {
    /// The current endpoint; 0 during a failover.
    pub endpoint: u64,
    /// The route's name.
    pub route: &'a Arc<str>,
    /// The route's version when the tunnel was opened.
    pub route_version: u64,
    /// The name of the client's listener.
    pub listener: &'a Arc<str>,
    /// The number in the order in which tunnels joined.
    pub join_number: u64,
    /// Whether its client may have other tunnels on the same connection.
    pub is_shared: bool,
}

impl Filter {
    /// Returns whether the filter selects a tunnel.
    pub(super) fn selects(&self, seen: TunnelView<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Endpoint(endpoint) => seen.endpoint == *endpoint,
            Self::Route(route) => seen.route == route,
            Self::RouteAlone(route) => !seen.is_shared && seen.route == route,
            Self::RouteAt(route, endpoint) => seen.endpoint == *endpoint && seen.route == route,
            Self::Outdated(route, current) => seen.route_version != *current && seen.route == route,
            Self::RouteFrom(route, listener) => seen.listener == listener && seen.route == route,
        }
    }
}
