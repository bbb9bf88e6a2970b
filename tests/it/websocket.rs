//! WebSocket handshake: tunnels, other responses, and the selected backend.

use crate::support::frames::{Frames, HEADERS};
use crate::support::raw::{Wire, lossy};
use crate::support::ws::{accepted, frame, handshake, masked, open_raw, read_frame};
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Socket};
use std::sync::Arc;

fn to(origin: &Origin) -> Gateway {
    Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"))
}

/// A backend that accepts and then does `then`.
fn accepting(name: &str, then: impl Fn(&mut Wire) + Send + Sync + 'static) -> Origin {
    Origin::scripted(name, move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        then(wire);
        Next::Close
    })
}

#[test]
fn a_websocket_opens_echoes_and_closes() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut socket = Socket::open(gateway.web(), "/ws?room=1");
    assert_eq!(socket.backend, "a", "fields of the 101 come through");
    socket.echo("hello");
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "GET /ws?room=1 HTTP/1.1");
    assert_eq!(seen.field("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(seen.field("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    socket.close();
    a.await_sockets(0);
}

#[test]
fn what_a_client_offers_reaches_the_backend_as_it_came() {
    let a = accepting("a", |_| {});
    let gateway = to(&a);
    let offers = "Origin: https://app.example\r\nCookie: a=b\r\nSec-WebSocket-Protocol: chat, v2.chat\r\n\
                  Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", offers));
    assert_eq!(wire.response().status, 101);
    let seen = &a.seen()[0];
    assert_eq!(seen.field("origin"), Some("https://app.example"));
    assert_eq!(seen.field("cookie"), Some("a=b"));
    assert_eq!(seen.field("sec-websocket-protocol"), Some("chat, v2.chat"));
    assert_eq!(seen.field("sec-websocket-extensions"), Some("permessage-deflate; client_max_window_bits"));
    assert_eq!(seen.field("host"), Some("localhost"));
}

#[test]
fn another_version_is_426_and_names_ours() {
    let a = Origin::named("a");
    let gateway = to(&a);
    for version in ["Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 12, 13\r\n", ""] {
        let mut wire = gateway.wire();
        wire.send(handshake("/ws", "").replace("Sec-WebSocket-Version: 13\r\n", version));
        let response = wire.response();
        assert_eq!(response.status, 426, "{version:?}");
        assert_eq!(response.field("sec-websocket-version"), Some("13"));
        assert!(response.text().contains("websocket_version"), "{}", response.text());
    }
    assert_eq!(a.count(), 0);
}

#[test]
fn a_handshake_without_a_good_key_is_400() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let right = format!("Sec-WebSocket-Key: {}\r\n", crate::support::ws::KEY);
    for key in [
        "",
        "Sec-WebSocket-Key: short\r\n",
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n",
        &right.repeat(2),
    ] {
        let mut wire = gateway.wire();
        wire.send(handshake("/ws", "").replace(&right, key));
        let response = wire.response();
        assert_eq!(response.status, 400, "{key:?}");
        assert!(response.text().contains("bad_websocket_request"), "{}", response.text());
        assert!(response.text().contains("Sec-WebSocket-Key"), "{}", response.text());
    }
    assert_eq!(a.count(), 0);
}

/// No WebSocket handshake, whatever `Upgrade` says: ordinary HTTP, without that field.
#[test]
fn an_upgrade_that_is_no_websocket_is_ordinary_http() {
    let a = Origin::named("a");
    let gateway = to(&a);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            .to_owned(),
        handshake("/", "").replace("Connection: Upgrade\r\n", ""),
        handshake("/", "Content-Length: 0\r\n").replace("GET ", "POST "),
        handshake("/", "").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        a.forget();
        let mut wire = gateway.wire();
        wire.send(&request);
        let status = wire.response().status;
        assert!(status == 200 || status == 400, "{status} for {request:?}");
        for seen in a.seen() {
            assert_eq!(seen.field("upgrade"), None, "{}", seen.head);
            assert_eq!(seen.field("http2-settings"), None, "{}", seen.head);
        }
    }
}

#[test]
fn an_upgrade_field_skips_no_rule_and_no_plugin() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes:
  - path: /only/
    methods: [GET]
    headers: {{ x-pass: word }}
    upstream: ['{a}']
    plugins: [{{ kind: headers, request: {{ set: {{ x-guard: 'on' }} }} }}]"
    ));
    let upgrades = ["Upgrade: x\r\nConnection: upgrade\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n"];
    for upgrade in upgrades {
        for (target, field) in
            [("/other/", "X-Pass: word\r\n"), ("/only/", ""), ("/only/", "X-Pass: wrong\r\n")]
        {
            let mut wire = gateway.wire();
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{upgrade}{field}\r\n"));
            assert_eq!(wire.response().status, 404, "{upgrade:?} {target} {field:?}");
        }
    }
    assert_eq!(a.count(), 0);
    let mut wire = gateway.wire();
    wire.send(
        "GET /only/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: x\r\nConnection: upgrade\r\nX-Pass: word\r\n\r\n",
    );
    assert_eq!(wire.response().status, 200);
    Socket::open_with(gateway.web(), "/only/ws", &[("X-Pass", "word"), ("X-Guard", "off")]).unwrap().close();
    assert!(a.seen().iter().all(|seen| seen.fields("x-guard") == ["on"]), "{:?}", a.seen());
}

#[test]
fn a_non_101_response_is_forwarded_and_the_connection_stays_open() {
    let refusing = Origin::scripted("refusing", |seen, wire| {
        let answer = match seen.field("upgrade") {
            Some(_) => {
                crate::support::origin::answer(403, "X-Why: no ticket\r\nSet-Cookie: a=b\r\n", b"no ticket")
            }
            None => crate::support::origin::answer(200, "", b"plain"),
        };
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&refusing);
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", ""));
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (403, "no ticket"));
    assert_eq!((response.field("x-why"), response.field("set-cookie")), (Some("no ticket"), Some("a=b")));
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(wire.response().text(), "plain");
}

#[test]
fn a_refusal_of_any_framing_is_passed_on_whole() {
    let body = "0123456789".repeat(20_000);
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let sized = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let to_the_end = format!("Connection: close\r\n\r\n{body}");
    for answer in [chunked, sized, to_the_end] {
        let origin = Origin::fixed(format!("HTTP/1.1 401 Unauthorized\r\n{answer}"), Next::Close);
        let gateway = to(&origin);
        let mut wire = gateway.wire();
        wire.send(handshake("/ws", ""));
        let response = wire.response();
        assert_eq!((response.status, response.body.len()), (401, body.len()), "{}", response.head);
    }
}

#[test]
fn interim_responses_before_the_101_are_skipped() {
    let origin = Origin::scripted("early hints", |seen, wire| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        wire.try_send(format!("{hints}{}", accepted(seen, ""))).unwrap();
        wire.try_send(frame(1, b"behind it")).unwrap();
        Next::Close
    });
    let gateway = to(&origin);
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", ""));
    let mut response = wire.response();
    if response.status == 103 {
        response = wire.response();
    }
    assert_eq!(response.status, 101);
    assert_eq!(read_frame(&mut wire).unwrap(), (0x81, b"behind it".to_vec()));
}

fn broken_101(answer: impl Fn(&str) -> String + Send + Sync + 'static) {
    let origin = Origin::scripted("broken", move |seen, wire| {
        let answer = answer(&accepted(seen, ""));
        wire.try_send(answer).map_or(Next::Close, |()| Next::Close)
    });
    let gateway = to(&origin);
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", "Accept: application/json\r\nSec-WebSocket-Protocol: chat\r\n"));
    let response = wire.response();
    assert_eq!(response.status, 502, "{}", response.head);
    assert_eq!(response.json()["error"], "bad_handshake");
}

#[test]
fn a_101_that_is_not_right_is_502() {
    broken_101(|right| right.replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x"));
    broken_101(|right| right.replace("Sec-WebSocket-Accept", "X-Accept"));
    broken_101(|right| right.replace("Upgrade: websocket\r\n", ""));
    broken_101(|right| right.replace("Upgrade: websocket", "Upgrade: h2c"));
    broken_101(|right| right.replace("Connection: Upgrade", "Connection: keep-alive"));
    broken_101(|right| right.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: never-offered\r\n\r\n"));
    broken_101(|right| right.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
}

#[test]
fn an_unrequested_101_is_502() {
    let origin = Origin::fixed(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhidden",
        Next::Close,
    );
    let gateway = to(&origin);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let mut wire = gateway.wire();
        wire.send(request);
        let response = wire.response();
        assert_eq!(response.status, 502, "{}", response.head);
        assert!(!response.text().contains("hidden"));
    }
}

#[test]
fn a_refused_connect_goes_to_the_next_endpoint() {
    let (dead, live) = (Origin::named("dead"), Origin::named("live"));
    dead.die();
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: ['{dead}', '{live}'], passive_health: {{ failures: 0 }} }}
routes: [{{ upstream: all }}]"
    ));
    for _ in 0..10 {
        assert_eq!(Socket::open(gateway.web(), "/ws").backend, "live");
    }
}

#[test]
fn a_handshake_without_a_response_goes_to_the_next_endpoint() {
    let closing = Origin::scripted("closing", |_, _| Next::Close);
    let live = Origin::named("live");
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: ['{closing}', '{live}'], passive_health: {{ failures: 0 }} }}
routes: [{{ upstream: all }}]"
    ));
    for _ in 0..10 {
        assert_eq!(Socket::open(gateway.web(), "/ws").backend, "live");
    }
    assert!(closing.count() >= 4);
}

#[test]
fn an_unreachable_backend_is_reported_as_for_any_request() {
    let dead = Origin::named("dead");
    dead.die();
    let gateway = to(&dead);
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", "Accept: application/json\r\n"));
    let response = wire.response();
    assert_eq!((response.status, &response.json()["error"]), (502, &"connect_refused".into()));
}

/// Stock Pingora closed the tunnel when the 101 overtook the request's empty body (its issue #946).
#[test]
fn a_101_with_a_frame_in_one_packet_opens_every_time() {
    let eager = Origin::scripted("eager", |seen, wire| {
        let packet = [accepted(seen, "").as_bytes(), &frame(1, b"welcome")].concat();
        wire.try_send(packet).unwrap();
        let (_, said) = read_frame(wire).unwrap();
        wire.try_send(frame(1, &said)).unwrap();
        Next::Close
    });
    let gateway = to(&eager);
    for n in 0..200 {
        let mut wire = open_raw(gateway.web(), "/ws");
        let (_, welcome) = read_frame(&mut wire).unwrap_or_else(|e| panic!("socket {n}: {e}"));
        assert_eq!(lossy(&welcome), "welcome");
        wire.send(masked(1, b"thanks"));
        assert_eq!(read_frame(&mut wire).unwrap().1, b"thanks", "socket {n}");
    }
}

#[test]
fn interim_responses_to_a_handshake_are_forwarded_before_the_101() {
    let gate = Arc::new(Gate::default());
    let (opened, interim) =
        (Arc::clone(&gate), "HTTP/1.1 103 Early Hints\r\nX-b: 1\r\nliNK: </a>\r\nx-B: 2\r\n");
    let a = Origin::scripted("a", move |seen, wire| {
        wire.try_send(format!("{interim}Connection: x-gone\r\nX-Gone: 1\r\n\r\n")).unwrap();
        opened.pass_within(LIMIT);
        wire.try_send(format!("HTTP/1.1 102 Odd\r\n\r\n{}", accepted(seen, ""))).unwrap();
        Next::Close
    });
    let gateway = to(&a);
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", ""));
    assert_eq!(lossy(&wire.head().unwrap().unwrap()), format!("{interim}\r\n"));
    gate.open();
    assert_eq!(lossy(&wire.head().unwrap().unwrap()), "HTTP/1.1 102 Odd\r\n\r\n");
    assert_eq!(wire.response().status, 101);
    // A refusal has them too, and so has a handshake over HTTP/2.
    let refusing = Origin::fixed(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        Next::Close,
    );
    let endless = Origin::fixed("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200), Next::Close);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
routes: [{{ path: /endless, upstream: ['{endless}'] }}, {{ path: /refused, upstream: ['{refusing}'] }}, {{ upstream: ['{a}'] }}]"
    ));
    let mut wire = gateway.wire();
    wire.send(handshake("/refused", ""));
    assert_eq!([wire.response().status, wire.response().status], [103, 403]);
    wire.send(handshake("/endless", ""));
    let statuses: Vec<_> = (0..=100).map(|_| wire.response().status).collect();
    assert_eq!((statuses.iter().filter(|status| **status == 103).count(), statuses[100]), (100, 502));
    let mut frames = Frames::with(gateway.web(), &[(1, 0)]);
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/ws"),
        ("sec-websocket-version", "13"),
    ];
    frames.head(1, &connect, false);
    let statuses: Vec<_> = (0..3).map(|_| frames.next_on(HEADERS, 1).status()).collect();
    assert_eq!(statuses, [103, 102, 200]);
}
