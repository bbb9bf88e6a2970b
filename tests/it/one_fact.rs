//! One detection of WebSocket handshakes for routes, expressions, plugins of every kind and the upgrade. A
//! request that is no handshake by RFC 6455 §4.1 is guarded and forwarded as ordinary HTTP, and a handshake
//! never reaches a backend as anything else.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, Socket, eventually, h2, h2ws, ws};

const GUARD: &str = "when: '!request.is_websocket'";

/// Requests with an `Upgrade` that are no handshake: each lacks one field of it.
fn impostors() -> Vec<(&'static str, String)> {
    let key = format!("Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n", ws::KEY);
    let both = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}");
    vec![
        ("PUT", format!("PUT /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{key}")),
        ("PUT with Connection", format!("PUT /x HTTP/1.1\r\nHost: a\r\n{both}")),
        ("POST with a body", format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{both}")),
        ("DELETE", format!("DELETE /x HTTP/1.1\r\nHost: a\r\n{both}")),
        ("HEAD", format!("HEAD /x HTTP/1.1\r\nHost: a\r\n{both}")),
        ("an unknown method", format!("FETCH /x HTTP/1.1\r\nHost: a\r\n{both}")),
        ("no Connection", format!("GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{key}")),
        (
            "Connection without it",
            format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n{key}"),
        ),
        (
            "another protocol",
            "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websockets\r\n".to_owned(),
        ),
        ("HTTP/1.0", format!("GET /x HTTP/1.0\r\nHost: a\r\n{both}")),
        ("PUT in HTTP/1.0", format!("PUT /x HTTP/1.0\r\nHost: a\r\n{both}")),
    ]
}

fn asked(gateway: &Gateway, request: &str) -> Response {
    let body = if request.contains("Content-Length: 2") { "ab" } else { "" };
    let mut wire = gateway.wire();
    wire.send(format!("{request}X-User: root\r\n\r\n{body}"));
    let method = request.split(' ').next().unwrap();
    let mut response = wire.try_response(method).unwrap();
    // The gateway does not wait for the body of a guarded request, but an interim response may precede.
    if response.status < 200 {
        response = wire.try_response(method).unwrap();
    }
    response
}

#[test]
fn a_guard_that_spares_websockets_spares_nothing_else() {
    let origin = Origin::named("a");
    for plugin in [
        format!(
            "{{ kind: jwt, secret: 'a secret of at least thirty-two bytes', claims_to_headers: {{ X-User: sub }}, {GUARD} }}"
        ),
        format!("{{ kind: respond, status: 401, {GUARD} }}"),
        format!(
            "{{ kind: luau, source: 'function request_headers(req) req:respond(401, \"no\") end', {GUARD} }}"
        ),
        // Rejects requests without X-Team.
        format!(
            "{{ kind: wasm, module: '{}/crates/wasm/fixtures/c.wasm', {GUARD} }}",
            env!("CARGO_MANIFEST_DIR")
        ),
    ] {
        let gateway = Gateway::start_whole(&format!(
            "listeners: [{{ name: web, address: '127.0.0.1:0', protocols: [http1, h2c] }}]
routes: [{{ upstream: ['{origin}'], plugins: [{plugin}] }}]"
        ));
        for (what, request) in impostors() {
            assert_eq!(asked(&gateway, &request).status, 401, "{what} past {plugin}");
        }
        // HTTP/2 has no Upgrade; a body makes no difference either.
        let client = h2::Client::connect(gateway.web());
        assert_eq!(client.ask(h2::get("/x"), &[]).status, 401, "{plugin}");
        assert_eq!(client.ask(h2::request("PUT", "/x").body(()).unwrap(), &[b"ab"]).status, 401, "{plugin}");
        assert_eq!(origin.count(), 0, "{plugin}");
        // Valid handshakes pass.
        Socket::open(gateway.web(), "/x").echo("hello");
        let client = h2ws::Client::plain(gateway.web());
        client.open("/x");
        origin.await_seen(2);
        origin.forget();
    }
}

#[test]
fn a_handshake_with_a_fault_is_refused_and_never_ordinary_http() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: respond, status: 418, {GUARD} }}] }}]"
    ));
    let head = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    for (what, rest, status) in [
        ("no key", "Sec-WebSocket-Version: 13\r\n", 400),
        ("a short key", "Sec-WebSocket-Key: YQ==\r\nSec-WebSocket-Version: 13\r\n", 400),
        (
            "another version",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n",
            426,
        ),
        (
            "a body",
            "Content-Length: 3\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            400,
        ),
    ] {
        assert_eq!(ask(gateway.web(), format!("{head}{rest}\r\n")).status, status, "{what}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn routes_and_keys_detect_a_websocket_alike() {
    let (http, sockets) = (Origin::named("http"), Origin::named("sockets"));
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ name: sockets, when: request.is_websocket, upstream: ['{sockets}'] }}
  - name: rest
    upstream: ['{http}']"
    ));
    for (what, request) in impostors() {
        let response = asked(&gateway, &request);
        assert_eq!((response.status, response.field("x-backend")), (200, Some("http")), "{what}");
    }
    assert!(http.seen().iter().all(|seen| seen.field("upgrade").is_none()), "no Upgrade goes on");
    assert_eq!(Socket::open(gateway.web(), "/x").backend, "sockets");
    assert_eq!(sockets.count(), 1);

    let limited = Gateway::start(&format!(
        "routes:
  - upstream: ['{http}']
    plugins: [{{ kind: rate_limit, rate: 1/h, key: 'cel:string(request.is_websocket)' }}]"
    ));
    // All of them have one key, and a handshake has another.
    let statuses: Vec<_> = impostors().iter().map(|(_, request)| asked(&limited, request).status).collect();
    assert_eq!((statuses[0], &statuses[1..]), (200, &vec![429; statuses.len() - 1][..]));
    Socket::open(limited.web(), "/x").echo("hello");
    assert_eq!(Socket::open_with(limited.web(), "/x", &[]).err(), Some(429));
}

#[test]
fn a_copy_is_made_of_every_request_but_a_websocket() {
    let (origin, copies) = (Origin::named("a"), Origin::named("copy"));
    let gateway = Gateway::start(&format!(
        "upstreams: {{ copies: {{ endpoints: ['{copies}'] }} }}
routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: mirror, upstream: copies }}] }}]"
    ));
    let all = impostors();
    for (_, request) in &all {
        assert_eq!(asked(&gateway, request).status, 200);
    }
    Socket::open(gateway.web(), "/socket").echo("hello");
    eventually("every request was copied", || (copies.count() >= all.len()).then_some(()));
    assert!(copies.seen().iter().all(|seen| seen.target() == "/x" && seen.field("upgrade").is_none()));
}
