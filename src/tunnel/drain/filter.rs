//! Where a tunnel belongs, and which tunnels a drain asks by that.

use std::sync::Arc;

/// Which tunnels a drain asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those of an endpoint.
    Endpoint(u64),
    /// Those of a route.
    Route(Arc<str>),
    /// Those of a route at an endpoint.
    RouteAt(Arc<str>, u64),
    /// Those of a route that were opened under another edition of it than this one.
    Outdated(Arc<str>, u64),
}

/// Where a tunnel that joins belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// The endpoint's number, not 0.
    pub endpoint: u64,
    /// The route's name.
    pub route: Arc<str>,
    /// The route's edition when the tunnel was opened.
    pub edition: u64,
    /// The part of a drain's window, in 2^-32, after which its session leaves; none when it has no session.
    pub drain_part: Option<u32>,
}

/// What the registry tells of a living tunnel.
#[derive(Clone, Copy, Debug)]
pub struct TunnelView<'a> {
    /// The endpoint it is at now; 0 while it is between two.
    pub endpoint: u64,
    /// The route's name.
    pub route: &'a Arc<str>,
    /// The route's edition when the tunnel was opened.
    pub edition: u64,
    /// Its number in the order in which tunnels joined.
    pub arrival: u64,
}

impl Filter {
    /// Whether it chooses a tunnel.
    pub(super) fn means(&self, seen: TunnelView<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Endpoint(endpoint) => seen.endpoint == *endpoint,
            Self::Route(route) => seen.route == route,
            Self::RouteAt(route, endpoint) => seen.endpoint == *endpoint && seen.route == route,
            Self::Outdated(route, current) => seen.edition != *current && seen.route == route,
        }
    }
}
