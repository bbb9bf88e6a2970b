//! Changes of plugins to a request and its response other than bodies, and replacement responses.

use crate::support::origin::answer;
use crate::support::{Gateway, Next, Origin, Socket, Wire, eventually};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::thread;

fn one(origin: &Origin, plugins: &str) -> Gateway {
    Gateway::start_own(&format!("routes: [{{ upstream: ['{}'], plugins: [{plugins}] }}]", origin.address()))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const REPLY: &str = "{ kind: chaos, phase: response_headers, act: reply }";

/// The lines of an access log, once there are this many.
fn lines(path: &std::path::Path, count: usize) -> Vec<Value> {
    eventually("the lines of the access log", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn the_backend_gets_the_plugins_request_and_the_log_has_the_client_s() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let gateway = Gateway::start_own(&format!(
        "access_log: {{ path: '{}' }}
routes: [{{ name: r, upstream: ['{}'], plugins: [
  {{ kind: replace, name: 'mine\"', method: PUT, target: '/other?x=1', note: 'a\"b' }} ] }}]",
        path.display(),
        origin.address()
    ));
    assert_eq!(gateway.get("/asked?y=2").status, 200);
    // The line is written after the response, and another worker may accept the handshake.
    lines(&path, 1);
    let mut socket = Socket::open(gateway.web(), "/ws?z=3");
    socket.say("hello");
    assert_eq!(socket.hear(), b"hello");
    drop(socket);
    let [request, handshake] = &origin.seen()[..] else { panic!("two requests") };
    assert_eq!(request.line(), "PUT /other?x=1 HTTP/1.1");
    assert_eq!(handshake.line(), "GET /other?x=1 HTTP/1.1");
    let lines = lines(&path, 3);
    let said = json!({ "mine\"": { "said": "a\"b" } });
    assert_eq!((&lines[0]["method"], &lines[0]["path"]), (&json!("GET"), &json!("/asked?y=2")));
    assert_eq!(lines[0]["plugins"], said);
    assert_eq!((&lines[1]["event"], &lines[1]["path"]), (&json!("open"), &json!("/ws?z=3")));
    assert_eq!(lines[1]["plugins"], said);
    assert_eq!((&lines[2]["event"], &lines[2]["plugins"]), (&json!("close"), &Value::Null));
}

#[test]
fn a_changed_method_decides_about_the_response_body() {
    let origin = Origin::scripted("a", |seen, wire| {
        let whole = answer(200, "", b"body");
        let sent = if seen.line().starts_with("HEAD") { whole.len() - 4 } else { whole.len() };
        wire.try_send(&whole[..sent]).map_or(Next::Close, |()| Next::Keep)
    });
    for (asks, becomes, body) in [("GET", "HEAD", ""), ("HEAD", "GET", ""), ("GET", "POST", "body")] {
        let gateway = one(&origin, &format!("{{ kind: replace, method: {becomes} }}"));
        let mut wire = gateway.wire();
        for _ in 0..2 {
            wire.send(format!("{asks} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = wire.try_response(asks).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, body), "{asks} as {becomes}");
        }
    }
}

#[test]
fn a_changed_status_is_sent() {
    for (came, goes, body) in
        [(200, 404, "body"), (200, 204, ""), (200, 304, ""), (204, 200, ""), (304, 200, "")]
    {
        let bodies = if came == 200 { &b"body"[..] } else { b"" };
        let origin = Origin::fixed(answer(came, "", bodies), Next::Keep);
        let gateway = one(&origin, &format!("{{ kind: replace, status: {goes} }}"));
        let mut wire = gateway.wire();
        for _ in 0..2 {
            wire.send(GET);
            let response = wire.response();
            assert_eq!(
                (response.status, response.text().as_str()),
                (goes, body),
                "{came}: {}",
                response.head
            );
            assert_eq!(response.field("connection"), Some("keep-alive"), "{came}: {}", response.head);
        }
    }
}

#[test]
fn a_reply_replaces_a_backends_response_and_the_connection_stays_open() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlong\r\n0\r\n\r\n";
    for came in [
        answer(200, "X-Was: 1\r\n", &vec![b'x'; 1 << 20]),
        answer(200, "X-Was: 1\r\n", b"short"),
        answer(200, "", b""),
        answer(204, "", b""),
        answer(304, "", b""),
        chunked.as_bytes().to_vec(),
    ] {
        let origin = Origin::fixed(came.clone(), Next::Keep);
        let gateway = one(&origin, REPLY);
        let mut wire = gateway.wire();
        for method in ["GET", "HEAD", "GET"] {
            // The script responds to a HEAD with a body; a connection to a backend that does so is closed.
            let method = if came.len() > 1 << 10 { "GET" } else { method };
            if method == "HEAD" && came.ends_with(b"short") {
                continue;
            }
            wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = wire.try_response(method).unwrap();
            let body = if method == "HEAD" { "" } else { "chaos" };
            assert_eq!((response.status, response.text().as_str()), (418, body), "{}", response.head);
            assert_eq!(response.field("content-length"), Some("5"), "{}", response.head);
            assert_eq!((response.field("x-was"), response.field("connection")), (None, Some("keep-alive")));
        }
    }
}

#[test]
fn a_reply_replaces_the_gateways_and_a_plugins_response() {
    let dead = Origin::named("dead");
    dead.die();
    assert_eq!(one(&dead, REPLY).get("/").text(), "chaos");
    let origin = Origin::named("a");
    let both = format!("{{ kind: chaos, name: first, phase: request_headers, act: reply }}, {REPLY}");
    let response = one(&origin, &both).get("/");
    assert_eq!((response.status, response.field("content-length")), (418, Some("5")));
}

#[test]
fn the_other_plugins_see_what_came_in_the_place() {
    let origin = Origin::fixed(answer(200, "", b"body"), Next::Keep);
    let gateway = one(
        &origin,
        &format!("{{ kind: replace, status: 403, response: {{ from: chaos, to: order }} }}, {REPLY}"),
    );
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (403, "order"));
    assert_eq!(response.field("content-length"), Some("5"));
}

#[test]
fn a_reply_to_a_101_refuses_the_websocket() {
    let origin = Origin::named("a");
    let gateway = one(&origin, REPLY);
    assert_eq!(Socket::open_with(gateway.web(), "/", &[]).err(), Some(418));
    eventually("the backend's socket ends", || (origin.sockets() == 0).then_some(()));
}

#[test]
fn a_non_101_response_to_a_handshake_passes_plugins_too() {
    let origin = Origin::fixed(answer(403, "", b"a quiet no"), Next::Close);
    let handshake = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for (plugin, status, body) in [
        ("{ kind: replace, status: 401, response: { from: quiet, to: LOUD } }", 401, "a LOUD no"),
        (REPLY, 418, "chaos"),
    ] {
        let gateway = one(&origin, plugin);
        let mut wire = gateway.wire();
        for _ in 0..2 {
            wire.send(handshake);
            let response = wire.response();
            assert_eq!((response.status, response.text().as_str()), (status, body), "{}", response.head);
        }
    }
}

#[test]
fn a_reply_to_a_piece_of_the_request_is_the_response() {
    let origin = Origin::named("a");
    let gateway = one(&origin, "{ kind: chaos, phase: request_body, act: reply }");
    let mut wire = gateway.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (418, "chaos"));
    // The body was read to its end.
    assert_eq!(response.field("connection"), Some("keep-alive"));
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().status, 200);
    let failures = gateway.metrics().sum("moongate_upstream_failures_total", &[]);
    assert_eq!(failures, 0.0, "no fault of the endpoint's");
    assert_eq!(gateway.get("/").status, 200, "a request without a body is not asked about one");
}

#[test]
fn a_reply_ends_an_upload_that_is_still_under_way() {
    // Reads only the header, and responds at once with more than any buffer holds.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = thread::spawn(move || {
        let mut wire = Wire::of(listener.accept().unwrap().0);
        wire.head().unwrap();
        // The write fails once the gateway stops reading.
        let _ = wire.try_send(answer(200, "", &vec![b'x'; 16 << 20]));
    });
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{address}'], plugins: [{REPLY}] }}]"));
    let mut wire = gateway.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (418, "chaos"));
    assert_eq!((response.field("connection"), wire.ended()), (Some("close"), true));
    backend.join().unwrap();
}
