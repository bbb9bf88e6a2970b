//! One identity of a client in every limit and key: `server.client_ipv6_prefix`.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, Socket};

/// Two addresses of one /64, and one of another.
const CLIENTS: [&str; 3] = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"];

fn from(gateway: &Gateway, client: &str, path: &str) -> Response {
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\r\n");
    ask(gateway.web(), head)
}

fn open(gateway: &Gateway, client: &str, path: &str) -> Result<Socket, u16> {
    Socket::open_with(gateway.web(), path, &[("X-Forwarded-For", client)])
}

fn config(server: &str, origin: &Origin) -> String {
    format!(
        "server: {{ trusted_proxies: [127.0.0.1], {server} }}
routes:
  - {{ path: /few, upstream: ['{origin}'], websocket: {{ connections_per_client: 1 }} }}
  - path: /user
    upstream: ['{origin}']
    websocket: {{ connections_per_client: {{ limit: 1, key: 'header:X-User' }} }}
  - path: /rate
    upstream: ['{origin}']
    plugins: [{{ kind: rate_limit, rate: 1/h }}]"
    )
}

#[test]
fn addresses_of_one_network_share_every_limit() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&config("", &a));
    let _first = open(&gateway, CLIENTS[0], "/few").unwrap();
    assert_eq!(open(&gateway, CLIENTS[1], "/few").err(), Some(429));
    let _other = open(&gateway, CLIENTS[2], "/few").unwrap();
    for (client, status) in [(CLIENTS[0], 200), (CLIENTS[1], 429), (CLIENTS[2], 200)] {
        assert_eq!(from(&gateway, client, "/rate").status, status, "{client}");
    }
    let _mapped = open(&gateway, "::ffff:192.0.2.1", "/few").unwrap();
    assert_eq!(open(&gateway, "192.0.2.1", "/few").err(), Some(429), "the same IPv4 address");
}

#[test]
fn a_reload_changes_what_a_client_is() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&config("client_ipv6_prefix: 48", &a));
    let _first = open(&gateway, CLIENTS[0], "/few").unwrap();
    assert_eq!(open(&gateway, CLIENTS[2], "/few").err(), Some(429), "one /48");
    assert_eq!(from(&gateway, CLIENTS[0], "/rate").status, 200);
    assert_eq!(from(&gateway, CLIENTS[2], "/rate").status, 429);
    gateway.reload(&config("client_ipv6_prefix: 128", &a)).unwrap();
    let again: Vec<_> = CLIENTS.iter().map(|client| open(&gateway, client, "/few").unwrap()).collect();
    assert_eq!(open(&gateway, CLIENTS[1], "/few").err(), Some(429), "each address has its own limit");
    assert_eq!(from(&gateway, CLIENTS[1], "/rate").status, 200);
    assert_eq!(from(&gateway, CLIENTS[1], "/rate").status, 429);
    drop(again);
}

#[test]
fn a_network_is_placed_at_one_endpoint() {
    let origins: Vec<_> = ["a", "b", "c", "d"].into_iter().map(Origin::named).collect();
    let endpoints: Vec<_> = origins.iter().map(|origin| format!("'{origin}'")).collect();
    let config = |server: &str| {
        format!(
            "server: {{ trusted_proxies: [127.0.0.1], {server} }}
upstreams: {{ all: {{ balance: {{ kind: consistent_hash, key: client_ip }}, endpoints: [{}] }} }}
routes: [{{ upstream: all }}]",
            endpoints.join(", ")
        )
    };
    let gateway = Gateway::start(&config(""));
    let reached = |gateway: &Gateway| {
        let mut names: Vec<_> =
            (1..40).map(|n| from(gateway, &format!("2001:db8::{n:x}"), "/").text()).collect();
        names.sort();
        names.dedup();
        names.len()
    };
    assert_eq!(reached(&gateway), 1);
    gateway.reload(&config("client_ipv6_prefix: 128")).unwrap();
    // How many of the four, is chance.
    assert!(reached(&gateway) > 1);
}

#[test]
fn a_key_s_value_is_no_address() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&config("", &a));
    // The bytes of `abcd` are those of 97.98.99.100.
    let fields = [("X-Forwarded-For", "192.0.2.1"), ("X-User", "abcd")];
    let _by_value = Socket::open_with(gateway.web(), "/user", &fields).unwrap();
    let _by_address = open(&gateway, "97.98.99.100", "/user").unwrap();
}
