//! A gateway without sockets, for the tests of this module: generations compiled from text, and WebSockets
//! that are a lease and an entry in the registry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use crate::config;
use crate::snapshot::{self, Kinds, Snapshot};
use crate::tunnel::{Cause, CloseOrder, Membership, Registry, TunnelKey};
use crate::upstream::{DrainMoment, Lease, Reason, RequestView, TriedEndpoints};
use http::{HeaderMap, Method};
use moongate_sdk::Request;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub(super) struct TestHarness {
    pub(super) tunnels: Arc<Registry>,
    pub(super) snapshot: Snapshot,
    pub(super) generation: u64,
}

/// An open WebSocket.
pub(super) struct Socket {
    member: Membership,
    lease: Lease,
}

impl Socket {
    /// The cause of its drain, if it is drained.
    pub(super) fn asked(&self) -> Option<Cause> {
        match self.member.order()? {
            CloseOrder::Drain(cause) => Some(cause),
            CloseOrder::Operator => None,
        }
    }

    /// Fails a connect to its endpoint.
    pub(super) fn fail(&self) {
        self.lease.failed(Reason::Refused);
    }

    /// The port of its endpoint.
    pub(super) fn port(&self) -> u16 {
        self.lease.endpoint().name().rsplit(':').next().unwrap().parse().unwrap()
    }
}

fn compile(yaml: &str, prior: Option<&Snapshot>) -> Snapshot {
    let Ok(loaded) = config::load_text("test.yaml", yaml, &|_| None) else { panic!("the file is wrong") };
    snapshot::compile(&loaded.spec, prior, Kinds { plugins: &[] }).expect("the file is right").0
}

impl TestHarness {
    pub(super) fn new(yaml: &str) -> Self {
        Self { tunnels: Arc::default(), snapshot: compile(yaml, None), generation: 1 }
    }

    /// Swaps to the next generation.
    pub(super) fn reload(&mut self, yaml: &str) {
        self.snapshot = compile(yaml, Some(&self.snapshot));
        self.generation += 1;
    }

    /// Opens `count` WebSockets on a route.
    pub(super) fn open(&self, route: &str, count: usize) -> Vec<Socket> {
        (0..count).map(|_| self.join(self.handshake(route))).collect()
    }

    /// A handshake that was accepted before the drain.
    pub(super) fn join(&self, (lease, tunnel_key): (Lease, TunnelKey)) -> Socket {
        Socket { member: self.tunnels.join(tunnel_key), lease }
    }

    /// A handshake in progress on a route.
    pub(super) fn handshake(&self, route: &str) -> (Lease, TunnelKey) {
        let route = self.snapshot.route(route).expect("the route is there");
        let headers = HeaderMap::new();
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let request =
            RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
        let cluster = route.destination.choose(&request, route.policy.drain).expect("an upstream");
        let key = cluster.key(&request);
        let lease =
            cluster.pick(&key, &TriedEndpoints::new(), route.policy.drain).expect("an endpoint is there");
        let tunnel_key = TunnelKey {
            endpoint: lease.endpoint().token().get(),
            route: Arc::clone(&route.name),
            route_version: route.route_version(),
            generation: 1,
            listener: Arc::clone(&self.snapshot.listeners[0].name),
            protocol: None,
            origin: None,
            drain_part: cluster.drain_moment(&key).map(DrainMoment::part),
            connection: None,
        };
        (lease, tunnel_key)
    }
}

/// The number of drained WebSockets by cause.
pub(super) fn asked(sockets: &[Socket]) -> BTreeMap<Option<&'static str>, usize> {
    let mut causes = BTreeMap::new();
    for socket in sockets {
        let cause = socket.asked().map(|cause| match cause {
            Cause::Shutdown => "shutdown",
            Cause::Endpoint => "endpoint",
            Cause::Unhealthy => "unhealthy",
            Cause::Route => "route",
            Cause::Listener => "listener",
            Cause::Keys => "keys",
            Cause::Operator => "operator",
            Cause::Rebalance => "rebalance",
        });
        *causes.entry(cause).or_default() += 1;
    }
    causes
}

/// The number of WebSockets by port.
pub(super) fn held(sockets: &[Socket]) -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for socket in sockets {
        *ports.entry(socket.port()).or_default() += 1;
    }
    ports
}
