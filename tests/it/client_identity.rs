//! One identity of a client in every limit and key: `server.client_ipv6_prefix`.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, Socket, eventually};

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
  - {{ path: /few, upstream: ['{origin}'], websocket: {{ max_connections_per_client: 1 }} }}
  - path: /user
    upstream: ['{origin}']
    websocket: {{ max_connections_per_client: {{ limit: 1, key: 'header:X-User' }} }}
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
    // How many of the four is random.
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

/// The statuses of routes for a client that a trusted proxy names.
fn asked(gateway: &Gateway, path: &str, fields: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    ask(gateway.web(), format!("{head}{fields}\r\n\r\n")).status
}

#[test]
fn lists_of_addresses_judge_the_client_however_its_proxy_writes_it() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
routes:
  - {{ path: =/allow, upstream: ['{a}'], plugins: [{{ kind: ip_access, allow: [private] }}] }}
  - {{ path: =/deny, upstream: ['{a}'], plugins: [{{ kind: ip_access, deny: [203.0.113.0/24] }}] }}
  - {{ path: =/maintenance, upstream: ['{a}'], plugins: [{{ kind: maintenance, except: [127.0.0.0/8] }}] }}"
    ));
    for (field, allow, deny, maintenance) in [
        ("X-Forwarded-For: 203.0.113.7:4711", 403, 403, 503),
        ("X-Forwarded-For: 10.1.2.3:4711", 200, 200, 503),
        ("X-Forwarded-For: [fd00::1]:443", 200, 200, 503),
        ("X-Forwarded-For: 203.0.113.7, ", 403, 403, 503),
        ("Forwarded: for=\"[2001:db8::1]:443\";proto=https", 403, 200, 503),
        ("Forwarded: for=10.1.2.3", 200, 200, 503),
        // Its address is unknown: an allow list does not match it, and a deny list does.
        ("X-Forwarded-For: unknown", 403, 403, 503),
        ("X-Forwarded-For: 10.1.2.3, _hidden", 403, 403, 503),
        ("Forwarded: proto=https", 403, 403, 503),
        ("X-Forwarded-For: ,", 403, 403, 503),
        ("X-Forwarded-For:", 403, 403, 503),
        ("X-Forwarded-For: \r\nForwarded: for=10.1.2.3", 200, 200, 503),
        ("Forwarded: for=\"x, for=203.0.113.7", 403, 403, 503),
        ("X-Forwarded-For: fe80::1%eth0", 200, 200, 503),
        ("X-Other: 1", 200, 200, 200),
    ] {
        let statuses = ["/allow", "/deny", "/maintenance"].map(|path| asked(&gateway, path, field));
        assert_eq!(statuses, [allow, deny, maintenance], "{field}");
    }
}

#[test]
fn a_client_without_an_address_is_counted_by_what_it_is_called() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
access_log: {{ path: '{}' }}
routes:
  - {{ path: =/rate, upstream: ['{a}'], plugins: [{{ kind: rate_limit, rate: 1/h }}] }}
  - {{ path: /user, upstream: ['{a}'], websocket: {{ max_connections_per_client: {{ limit: 1, key: 'header:x-user' }} }} }}
  - {{ upstream: ['{a}'], websocket: {{ max_connections_per_client: 1 }} }}",
        log.display()
    ));
    let statuses = ["unknown", "_one", "unknown:81", "_two:80", "_one:82", "UNKNOWN", "_two:83"]
        .map(|hop| asked(&gateway, "/rate", &format!("X-Forwarded-For: {hop}")));
    assert_eq!(statuses, [200, 200, 429, 200, 429, 429, 429]);
    let open = |path: &str, fields: &[(&str, &str)]| Socket::open_with(gateway.web(), path, fields);
    let _first = open("/", &[("x-forwarded-for", "unknown")]).unwrap();
    let _other = open("/", &[("x-forwarded-for", "_one")]).unwrap();
    assert_eq!(open("/", &[("x-forwarded-for", "unknown")]).err(), Some(429));
    // The text is not the value of a key.
    let _by_key = open("/user", &[("x-forwarded-for", "_one"), ("x-user", "unknown")]).unwrap();
    let _by_text = open("/user", &[("x-forwarded-for", "unknown")]).unwrap();
    // Each hop is forwarded as received.
    assert_eq!(a.seen()[0].fields("x-forwarded-for"), ["unknown, 127.0.0.1"]);
    let text = eventually("the log names the client", || {
        std::fs::read_to_string(&log).ok().filter(|text| text.contains("\"client\":\"_two\""))
    });
    assert!(text.contains("\"client\":\"unknown\""), "{text}");
}

#[test]
fn forwarded_sets_the_scheme_and_the_host_where_nothing_else_does() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
routes: [{{ upstream: ['{a}'], plugins: [{{ kind: redirect, https: true }}] }}]"
    ));
    let both = "Forwarded: for=203.0.113.7;proto=https;host=\"shop.example:8443\"";
    assert_eq!(asked(&gateway, "/", both), 200);
    assert_eq!(asked(&gateway, "/", "Forwarded: for=203.0.113.7;proto=https, for=10.0.0.1;proto=http"), 308);
    assert_eq!(asked(&gateway, "/", &format!("{both}\r\nX-Forwarded-Proto: http")), 308);
    for proto in ["wss", "HTTPS", "https,http", "WSS , http", "https,"] {
        assert_eq!(asked(&gateway, "/", &format!("X-Forwarded-Proto: {proto}")), 200, "{proto}");
        let one_hop = format!("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: {proto}");
        assert_eq!(asked(&gateway, "/", &one_hop), 200, "{proto}");
    }
    for fields in [
        "X-Forwarded-Proto: http,https",
        "X-Forwarded-Proto: ws",
        // What the client sent before the proxy appended to both is ignored.
        "X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\nX-Forwarded-Proto: https, http",
    ] {
        assert_eq!(asked(&gateway, "/", fields), 308, "{fields}");
    }
    assert!(a.seen().iter().all(|seen| seen.fields("x-forwarded-proto") == ["https"]));
    let seen = &a.seen()[0];
    assert_eq!(seen.fields("x-forwarded-for"), ["203.0.113.7, 127.0.0.1"], "{}", seen.head);
    assert_eq!(seen.fields("x-forwarded-proto"), ["https"], "{}", seen.head);
    assert_eq!(seen.fields("x-forwarded-host"), ["shop.example:8443"], "{}", seen.head);
}
