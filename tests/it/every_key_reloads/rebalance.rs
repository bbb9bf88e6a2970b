//! `upstreams.rebalance`.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::{Origin, Socket, eventually};

pub(super) const CASES: &[Case] = &[
    case(&["upstreams.rebalance"], |gateway| check_rebalance(gateway, "", "rebalance: { window: 1s }")),
    case(&["upstreams.rebalance.threshold"], |gateway| {
        check_rebalance(
            gateway,
            "rebalance: { threshold: 100, window: 1s }",
            "rebalance: { threshold: 1.3, window: 1s }",
        );
    }),
    case(&["upstreams.rebalance.window"], |gateway| {
        check_rebalance(gateway, "rebalance: { window: 1d }", "rebalance: { window: 1s }");
    }),
];

/// Twelve WebSockets at one of two endpoints: some are closed after the second setting, none after the first.
fn check_rebalance(gateway: &LoadedGateway, before: &str, after: &str) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let closed = || gateway.metric("moongate_websocket_closed_total", &[("reason", "drain_rebalance")]);
    let earlier = closed();
    gateway.reload(&File::upstream(&[&a], format!("balance: least_connections, {before}"), ""));
    let mut sockets: Vec<_> = (0..12).map(|_| gateway.open("/case").unwrap()).collect();
    gateway.reload(&File::upstream(&[&a, &b], format!("balance: least_connections, {before}"), ""));
    sockets.iter_mut().for_each(|socket: &mut Socket| socket.echo("open"));
    assert_eq!(closed(), earlier);
    gateway.reload(&File::upstream(&[&a, &b], format!("balance: least_connections, {after}"), ""));
    eventually("WebSockets above the share are closed", || (closed() > earlier).then_some(()));
}
