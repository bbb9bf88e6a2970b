//! `upgrades` of a route and WebSockets at backends of each HTTP version: what is forwarded, kept and sent again.

use crate::support::origin::answer;
use crate::support::raw::ask;
use crate::support::secured::{Http2, Issuer, Life, Selecting, quoted};
use crate::support::upgraded::{request, switching};
use crate::support::ws::handshake;
use crate::support::{Gateway, Next, Origin, Socket, Wire, eventually};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::SeqCst;

/// A gateway with an upstream of `protocol: h2`.
fn to_h2(issuer: &Issuer, backend: SocketAddr) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{backend}'], protocol: h2, tls: {{ ca: {} }} }} }}
routes: [{{ name: raw, upgrades: [tcp], upstream: all }}]",
        quoted(&issuer.file("ca.pem"))
    ))
}

#[test]
fn the_connection_of_a_refused_upgrade_is_kept_only_for_other_requests() {
    let refused = || Origin::fixed(answer(404, "", b"none"), Next::Keep);
    let issuer = Issuer::new();
    let (origin, plain) = (refused(), refused());
    let tls = issuer.server(&["127.0.0.1"], Life::Now, false);
    let backend = Selecting::start(tls, origin.address());
    backend.selects_h2.store(true, SeqCst);
    let gateway = to_h2(&issuer, backend.address);
    assert_eq!(gateway.get("/").text(), "two");
    for closed in 1..=3 {
        assert_eq!(ask(gateway.web(), request("/", "tcp")).status, 404);
        assert_eq!(origin.seen().pop().unwrap().field("connection"), Some("Upgrade, close"));
        // No request would use it.
        eventually("the connection ends", || (backend.ended[0].load(SeqCst) == closed).then_some(()));
    }
    assert_eq!(backend.ended[1].load(SeqCst), 0);
    // An ordinary request uses that of an upstream with HTTP/1.1.
    let gateway = Gateway::start(&format!(
        "server: {{ threads: 1 }}\nroutes: [{{ upgrades: [tcp], upstream: ['{plain}'] }}]"
    ));
    assert_eq!(ask(gateway.web(), request("/", "tcp")).status, 404);
    assert_eq!(gateway.get("/").status, 404);
    assert_eq!((plain.connections(), plain.seen()[0].field("connection")), (1, Some("Upgrade")));
}

#[test]
fn a_backend_with_http_2_only_gets_the_request_without_its_upgrade() {
    let issuer = Issuer::new();
    let backend = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    let gateway = to_h2(&issuer, backend.address);
    for _ in 0..8 {
        let with_body = request("/", "tcp").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody");
        let response = ask(gateway.web(), with_body);
        assert_eq!((response.status, response.text().as_str()), (200, "two"));
        assert_eq!(backend.last().1.get("upgrade"), None);
        assert_eq!(backend.seen.bodies.lock().unwrap().pop().unwrap(), b"body");
        // A WebSocket has nothing else, and gets the reason.
        let mut wire = gateway.wire();
        wire.send(handshake("/ws", ""));
        let response = wire.response();
        assert_eq!(response.status, 502);
        assert!(response.text().contains("websocket_over_h2 "), "{}", response.text());
    }
    // The endpoint is not at fault.
    assert_eq!(gateway.get("/").text(), "two");
    assert_eq!(gateway.metrics().sum("moongate_upstream_healthy", &[]), 1.0);
}

#[test]
fn a_websocket_goes_to_another_backend_than_one_with_http_2_only() {
    let issuer = Issuer::new();
    let tls = || issuer.server(&["127.0.0.1"], Life::Now, false);
    let (origin, only) = (Origin::named("a"), Http2::start(Some(tls())));
    let both = Selecting::start(tls(), origin.address());
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{}', '{}'], protocol: h2, tls: {{ ca: {} }} }} }}
routes: [{{ upstream: all }}]",
        only.address,
        both.address,
        quoted(&issuer.file("ca.pem"))
    ));
    for _ in 0..4 {
        Socket::open(gateway.web(), "/ws").echo("hello");
    }
    // Neither is at fault.
    assert_eq!(gateway.metrics().sum("moongate_upstream_healthy", &[]), 2.0);
}

/// The backend cannot mean it, as one does not whose response is invalid.
#[test]
fn a_backend_with_http_2_only_that_demands_http_1_stays_in_use() {
    let issuer = Issuer::new();
    let backend = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    let gateway = to_h2(&issuer, backend.address);
    assert_eq!(gateway.get("/old").status, 502);
    for _ in 0..3 {
        assert_eq!(gateway.get("/").text(), "two");
    }
}

#[test]
fn a_request_is_not_sent_again_after_a_101() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Origin::named("other");
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: [{{ address: '{}' }}, {{ address: '{other}', backup: true }}] }} }}
routes: [{{ upgrades: [tcp], upstream: all }}]",
        listener.local_addr().unwrap()
    ));
    // A request of an idempotent method, of which a part is missing.
    let head = request("/", "tcp").replace("POST", "PUT");
    let mut client = gateway.wire();
    client.send(format!("{}\r\nContent-Length: 10\r\n\r\n01234", head.trim_end()));
    let mut backend = Wire::of(listener.accept().unwrap().0);
    backend.head().unwrap().unwrap();
    assert_eq!(backend.exactly(5).unwrap(), b"01234");
    backend.send(switching("tcp"));
    backend.await_read();
    backend.reset_on_drop();
    drop(backend);
    client.send("56789");
    assert_eq!(client.response().status, 502);
    assert_eq!(other.count(), 0);
}

#[test]
fn an_upgrade_says_what_else_it_says_about_its_connection() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n",
        Next::Keep,
    );
    let gateway = Gateway::start(&format!(
        "upstreams: {{ kept: {{ endpoints: ['{origin}'] }}, single: {{ endpoints: ['{origin}'], keepalive_timeout: 0s }} }}
routes: [{{ path: /kept, upgrades: [tcp], upstream: kept }}, {{ path: /single, upgrades: [tcp], upstream: single }}]"
    ));
    for (path, te, connection) in [
        ("/kept", "", "Upgrade"),
        ("/kept", "trailers", "Upgrade, TE"),
        ("/single", "", "Upgrade, close"),
        ("/single", "trailers", "Upgrade, close, TE"),
    ] {
        let field = if te.is_empty() { String::new() } else { format!("Connection: TE\r\nTE: {te}\r\n") };
        let mut client = gateway.wire();
        client.send(request(path, "tcp").replace("\r\n\r\n", &format!("\r\n{field}\r\n")));
        let head = client.head().unwrap().unwrap();
        assert!(head.starts_with(b"HTTP/1.1 200 "));
        assert!(client.chunks().unwrap().0.ends_with(b"0\r\nX-A: 1\r\n\r\n"));
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.field("connection"), Some(connection), "{}", seen.head);
        assert_eq!((seen.field("te").unwrap_or_default(), seen.field("upgrade")), (te, Some("tcp")));
    }
}
