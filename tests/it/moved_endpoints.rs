//! What a new process takes over of endpoints and routes: addresses of names, drains, and changes that close WebSockets.

use crate::moved_websockets::upgraded;
use crate::support::name_server::{NameServer, Says};
use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, eventually};
use serde_json::Value;
use std::net::Ipv4Addr;

fn endpoint(gateway: &Gateway, address: &str) -> Option<Value> {
    let status = gateway.status();
    let endpoints = status["upstreams"]["all"]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["address"] == address).cloned()
}

fn order(gateway: &Gateway, method: &str, address: &str) {
    let target = format!("/api/v1/upstreams/all/endpoints/{address}/drain");
    let order = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(gateway.admin(), order).status, 200);
}

#[test]
fn addresses_of_names_and_their_drains_outlive_an_upgrade_beside_a_dead_name_server() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 3600));
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
upstreams: {{ all: {{ endpoints: ['a.test:{}', '{b}'], balance: round_robin }} }}
routes: [{{ name: ws, upstream: all }}]
",
        names.address(),
        a.address().port()
    ));
    let address = a.address().to_string();
    assert!(endpoint(&gateway, &address).is_some());
    order(&gateway, "POST", &address);
    names.says(Says::Nothing);
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (0, 0));
        let kept = endpoint(&gateway, &address).expect("the address of the name is lost");
        assert_eq!(kept["draining"], "operator", "{kept}");
        assert!((0..4).all(|_| gateway.get("/").text() == "b"), "a drained endpoint gets no requests");
    }
    order(&gateway, "DELETE", &address);
    assert_eq!(upgraded(&gateway), (0, 0));
    eventually("the endpoint gets requests", || (gateway.get("/").text() == "a").then_some(()));
}

#[test]
fn a_websocket_at_an_address_that_its_name_has_lost_moves() {
    let origin = Origin::named("a");
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 1));
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
upstreams:
  all: {{ discovery: {{ kind: dns, name: a.test., port: {}, hold: 0s }}, on_removal: keep }}
routes: [{{ name: ws, upstream: all }}]
",
        names.address(),
        origin.address().port()
    ));
    let mut socket = Socket::open(gateway.web(), "/ws");
    names.says(Says::Address(Ipv4Addr::new(127, 9, 9, 9), 1));
    let is_removed = || {
        endpoint(&gateway, &origin.to_string())
            .is_none_or(|endpoint| endpoint["draining"] == "removed" || endpoint["draining"] == "absent")
    };
    eventually("the address is removed", || is_removed().then_some(()));
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (1, 0));
        socket.echo("still open");
        assert!(is_removed());
    }
    assert_eq!(gateway.active("ws", origin.address()).unwrap_or(1), 1);
    socket.close();
    origin.await_sockets(0);
}

#[test]
fn a_route_that_changes_with_an_upgrade_is_drained_as_after_a_reload() {
    let origin = Origin::named("a");
    let route = |name: &str, more: &str| {
        format!(
            "  - {{ name: {name}, path: /{name}, upstream: [{origin}], websocket: {{ on_reload: drain, drain_window: 0s{more} }} }}\n"
        )
    };
    let gateway = Gateway::start(&format!("routes:\n{}{}", route("same", ""), route("changed", "")));
    let (mut same, mut changed) =
        (Socket::open(gateway.web(), "/same"), Socket::open(gateway.web(), "/changed"));
    assert_eq!(upgraded(&gateway), (2, 0));
    changed.echo("nothing has changed");
    gateway.write(&format!("routes:\n{}{}", route("same", ""), route("changed", ", max_frame: 1MiB")));
    assert_eq!(upgraded(&gateway), (2, 0));
    assert_eq!(changed.end(), Some(1012));
    same.echo("still open");
    assert_eq!(upgraded(&gateway), (1, 0));
    same.echo("still open");
}
