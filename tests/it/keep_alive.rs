//! Keep-alive turned off: `keepalive_timeout: 0s` of the server and of an upstream, and
//! `max_idle_connections: 0`.

use crate::support::frames::{Frames, GOAWAY, HEADERS, request};
use crate::support::{Gateway, Origin};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn to(origin: &Origin, server: &str, upstream: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         server: {{ threads: 1{server} }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams: {{ one: {{ endpoints: ['{origin}']{upstream} }} }}\n\
         routes: [{{ upstream: one }}]"
    ))
}

#[test]
fn without_keep_alive_each_response_closes_its_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, ", keepalive_timeout: 0s", "");
    for _ in 0..3 {
        let mut wire = gateway.wire();
        wire.send(GET);
        let response = wire.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert!(wire.ended());
    }
    assert_eq!(a.connections(), 1, "connections to the backend are kept");
}

#[test]
fn without_keep_alive_an_http2_connection_ends_with_its_last_request() {
    let a = Origin::named("a");
    let gateway = to(&a, ", keepalive_timeout: 0s", "");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    assert_eq!(client.next_of(GOAWAY).number(4), 0, "no error");
}

#[test]
fn connections_to_a_backend_are_not_kept_without_keep_alive_or_room() {
    for upstream in [", keepalive_timeout: 0s", ", max_idle_connections: 0"] {
        let a = Origin::named("a");
        let gateway = to(&a, "", upstream);
        let mut wire = gateway.wire();
        for _ in 0..3 {
            wire.send(GET);
            let response = wire.response();
            assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
        }
        assert_eq!(a.connections(), 3, "{upstream}");
        assert!(a.seen().iter().all(|seen| seen.field("connection") == Some("close")));
    }
}

#[test]
fn a_client_may_be_slow_without_a_limit() {
    let a = Origin::named("a");
    let gateway = to(&a, ", header_timeout: 0s, body_timeout: 0s, send_timeout: 0s", "");
    let mut wire = gateway.wire();
    for _ in 0..2 {
        for piece in ["POST / HTTP/1.1\r\nHo", "st: a\r\nContent-Length: 2\r\n\r\nx", "y"] {
            std::thread::sleep(std::time::Duration::from_millis(100));
            wire.send(piece);
        }
        assert_eq!(wire.response().status, 200);
    }
}
