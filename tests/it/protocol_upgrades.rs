//! `upgrades` of a route: requests that upgrade to another protocol than WebSocket, up to the 101 and the first bytes.

use crate::support::certs::Authority;
use crate::support::origin::answer;
use crate::support::raw::{ask, lossy};
use crate::support::secured::{Front, Http2, Issuer, Life, quoted};
use crate::support::upgraded::{Client, agree, echo, echoing, request, switching};
use crate::support::ws::handshake;
use crate::support::{Gateway, Next, Origin, Socket, Wire, eventually, moongate};
use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;

const ROUTE: &str = "name: raw, upgrades: [tcp, 'SPDY/3.1']";

fn to(origin: &Origin) -> Gateway {
    Gateway::start(&format!("routes: [{{ {ROUTE}, upstream: [{origin}] }}]"))
}

/// Sends these bytes, which begin with a request, and expects a 101.
#[track_caller]
fn open(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Wire {
    let mut wire = gateway.wire();
    wire.send(bytes);
    let response = wire.response();
    assert_eq!(response.status, 101, "{}", response.head);
    wire
}

#[test]
fn bytes_of_any_kind_pass_over_plain_and_tls_on_both_sides() {
    let (origin, authority, issuer) = (echoing("a"), Authority::new(), Issuer::new());
    let pair = authority.issue("a", &["localhost"]);
    let front = Front::start(Some(issuer.server(&["localhost"], Life::Now, false)), false, origin.address());
    let secure = |protocol: &str| {
        format!(
            "{{ endpoints: ['localhost:{}'], protocol: {protocol}, tls: {{ ca: {} }} }}",
            front.address.port(),
            quoted(&issuer.file("ca.pem"))
        )
    };
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}
upstreams: {{ plain: {{ endpoints: [{origin}] }}, secure: {}, h2: {} }}
routes:
  - {{ path: /plain, upstream: plain, upgrades: [tcp, 'SPDY/3.1'] }}
  - {{ path: /secure, upstream: secure, upgrades: [tcp, 'SPDY/3.1'] }}
  - {{ path: /h2, upstream: h2, upgrades: [tcp, 'SPDY/3.1'] }}",
        quoted(&pair.cert),
        quoted(&pair.key),
        secure("http1"),
        secure("h2"),
    ));
    // More than the buffers of a turn, and no frames of a protocol that the gateway parses.
    let bytes: Vec<u8> = (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for is_secure in [false, true] {
        for path in ["/plain", "/secure", "/h2"] {
            for protocol in ["tcp", "SPDY/3.1"] {
                let mut client = if is_secure {
                    let secure = authority.client().connect(gateway.listener("tls"), "localhost");
                    Client::Secure(Box::new(secure.unwrap()))
                } else {
                    Client::Plain(gateway.wire())
                };
                client.send(request(path, protocol));
                let response = client.response();
                assert_eq!((response.status, response.field("upgrade")), (101, Some(protocol)));
                client.echoes(b"\0\xff\x81\x05hello\r\n\r\n");
                client.echoes(&bytes);
                client.end_sending();
                assert_eq!(client.rest(), b"end", "{path} {protocol}, TLS: {is_secure}");
            }
        }
    }
    eventually("connections to the backend end", || (front.seen.ended.load(SeqCst) == 8).then_some(()));
    assert_eq!(front.seen.ragged.load(SeqCst), 0);
}

#[test]
fn a_backend_on_a_unix_socket_is_half_closed_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let daemon = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            received.push(byte[0]);
        }
        stream.write_all(switching("tcp").as_bytes()).unwrap();
        received.clear();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received.repeat(2)).unwrap();
    });
    let gateway = Gateway::start(&format!("routes: [{{ {ROUTE}, upstream: ['unix:{}'] }}]", path.display()));
    let mut wire = open(&gateway, request("/", "tcp"));
    wire.send("stdin");
    wire.half_close();
    assert_eq!(wire.rest(), b"stdinstdin");
    daemon.join().unwrap();
}

#[test]
fn the_request_and_the_101_pass_as_docker_sends_them() {
    let origin = echoing("a");
    let gateway = to(&origin);
    let mut wire = gateway.wire();
    wire.send(
        "POST /v1.43/containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/24\r\n\
         CONNECTION: keep-alive, Upgrade\r\nContent-Type: text/plain\r\nuPGRADE: TCP\r\n\r\n",
    );
    let response = wire.response();
    let head: Vec<_> = response.head.lines().collect();
    assert_eq!(
        head,
        [
            "HTTP/1.1 101 UPGRADED",
            "Content-Type: application/vnd.docker.raw-stream",
            "Connection: Upgrade",
            "Upgrade: TCP",
            "",
        ]
    );
    let seen = origin.await_seen(1).remove(0);
    let lines: Vec<_> = seen.head.lines().filter(|line| !line.starts_with("X-")).collect();
    assert_eq!(
        lines,
        [
            "POST /v1.43/containers/x/attach?stream=1 HTTP/1.1",
            "Host: docker",
            "User-Agent: Docker-Client/24",
            "CONNECTION: Upgrade",
            "Content-Type: text/plain",
            "uPGRADE: TCP",
            "",
        ]
    );
}

#[test]
fn bytes_right_behind_the_request_and_the_101_arrive() {
    let origin = Origin::scripted("a", |seen, wire| {
        assert!(seen.field("upgrade").is_some());
        wire.try_send([switching("tcp").as_bytes(), b"first of the backend"].concat()).unwrap();
        echo(wire)
    });
    let gateway = to(&origin);
    // Also bytes that look like a request, and more than is read ahead.
    let long = vec![b'z'; 200_000];
    for early in [&b"first of the client"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &long] {
        let mut wire = gateway.wire();
        let mut other = wire.another();
        let bytes = [request("/", "tcp").as_bytes(), early].concat();
        let sending = std::thread::spawn(move || other.write_all(&bytes).unwrap());
        assert_eq!(wire.response().status, 101);
        assert_eq!(wire.exactly(20).unwrap(), b"first of the backend");
        assert!(wire.exactly(early.len()).unwrap() == early);
        sending.join().unwrap();
        wire.half_close();
        assert_eq!(wire.rest(), b"end");
    }
    assert_eq!(origin.count(), 3, "nothing was taken for a request");
}

#[test]
fn a_body_belongs_to_the_request_and_bytes_behind_it_to_the_protocol() {
    let origin = echoing("a");
    let gateway = to(&origin);
    let head = request("/exec/1/start", "tcp");
    let head = head.trim_end();
    for (body, sent) in [
        ("Content-Length: 16\r\n\r\n{\"Detach\":false}", "{\"Detach\":false}"),
        ("Transfer-Encoding: chunked\r\n\r\n6\r\n{\"Tty\"\r\n1\r\n}\r\n0\r\n\r\n", "{\"Tty\"}"),
        ("Content-Length: 0\r\n\r\n", ""),
    ] {
        origin.forget();
        let mut wire = open(&gateway, format!("{head}\r\n{body}stdin"));
        assert_eq!(wire.exactly(5).unwrap(), b"stdin");
        let seen = origin.await_seen(1).remove(0);
        assert_eq!((lossy(&seen.body).as_str(), seen.field("upgrade")), (sent, Some("tcp")));
        wire.half_close();
        assert_eq!(wire.rest(), b"end");
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_before_its_101() {
    let origin = echoing("a");
    let gateway = to(&origin);
    let mut wire = gateway.wire();
    let head = request("/", "tcp");
    wire.send(format!("{}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", head.trim_end()));
    assert_eq!(wire.response().status, 100);
    wire.send("{}");
    assert_eq!(wire.response().status, 101);
    wire.send("stdin");
    assert_eq!(wire.exactly(5).unwrap(), b"stdin");
    assert_eq!(lossy(&origin.seen()[0].body), "{}");
}

/// The backend switches before it has the body (RFC 9110 §7.8 allows it).
#[test]
fn an_early_101_waits_for_the_rest_of_the_body() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start(&format!("routes: [{{ {ROUTE}, upstream: ['{address}'] }}]"));
    let mut client = gateway.wire();
    let head = request("/", "tcp");
    client.send(format!("{}\r\nContent-Length: 10\r\n\r\n01234", head.trim_end()));
    let mut backend = Wire::of(listener.accept().unwrap().0);
    backend.head().unwrap().unwrap();
    assert_eq!(backend.exactly(5).unwrap(), b"01234");
    backend.send(switching("tcp"));
    backend.await_read();
    // Bytes of the other protocol, and the end of this direction.
    backend.send("raw");
    backend.half_close();
    client.send("56789raw too");
    assert_eq!(backend.exactly(12).unwrap(), b"56789raw too");
    assert_eq!(client.response().status, 101);
    assert_eq!(client.exactly(3).unwrap(), b"raw");
    assert_eq!(client.fill().unwrap(), 0);
    client.send("more");
    assert_eq!(backend.exactly(4).unwrap(), b"more");
}

#[test]
fn either_side_ends_its_direction_and_the_other_goes_on() {
    let origin = Origin::scripted("a", |seen, wire| {
        assert!(agree(seen, wire));
        if seen.target() == "/backend-first" {
            wire.try_send("done").unwrap();
            wire.half_close();
        }
        let received = wire.rest();
        // A client that ended first still gets everything.
        for _ in 0..50 {
            let _ = wire.try_send(&received);
        }
        Next::Close
    });
    let gateway = to(&origin);
    let mut wire = open(&gateway, request("/client-first", "tcp"));
    wire.send("stdin");
    wire.half_close();
    assert_eq!(wire.rest(), b"stdin".repeat(50));
    let mut wire = open(&gateway, request("/backend-first", "tcp"));
    assert_eq!(wire.exactly(4).unwrap(), b"done");
    assert_eq!(wire.fill().unwrap(), 0, "the end of the backend's direction is passed on");
    for _ in 0..50 {
        wire.send("more");
    }
    wire.half_close();
    eventually("the relay ends", || (gateway.status()["upgraded"] == 0).then_some(()));
}

#[test]
fn what_is_not_listed_is_left_out_and_the_request_goes_on() {
    let origin = echoing("a");
    let gateway = to(&origin);
    let h2c =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    let plain = [
        ("1.1", "Connection: Upgrade\r\nUpgrade: foo/1"),
        ("1.1", "Connection: Upgrade\r\nUpgrade: SPDY/3, SPDY, tcp/1"),
        ("1.1", h2c),
        ("1.1", "Upgrade: tcp"),
        ("1.1", "Connection: keep-alive\r\nUpgrade: tcp"),
        ("1.0", "Connection: Upgrade, keep-alive\r\nUpgrade: tcp"),
    ];
    let mut wire = gateway.wire();
    // The connection is kept: each is an ordinary request.
    for (version, fields) in plain {
        wire.send(format!("POST / HTTP/{version}\r\nHost: localhost\r\nX-A: 1\r\n{fields}\r\n\r\n"));
        let response = wire.response();
        assert_eq!((response.status, response.text().as_str()), (200, "plain"), "{fields}");
        assert_eq!(response.field("upgrade"), None);
    }
    for (seen, (_, fields)) in origin.await_seen(plain.len()).iter().zip(plain) {
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.field(name), None, "{fields}");
        }
        assert_eq!(seen.field("x-a"), Some("1"));
    }
    origin.forget();
    // What is listed of an offer is forwarded, in its order.
    for (offer, forwarded) in [
        ("foo/1, tcp", "tcp"),
        ("h2c , SPDY/3.1,x", "SPDY/3.1"),
        ("tcp, spdy/3.1, websocket", "tcp, spdy/3.1"),
        ("SPDY/3.1\r\nUpgrade: tcp", "SPDY/3.1, tcp"),
    ] {
        let mut wire = open(&gateway, request("/", offer));
        wire.half_close();
        assert_eq!(wire.rest(), b"end");
        assert_eq!(origin.await_seen(1)[0].fields("upgrade"), [forwarded]);
        origin.forget();
    }
}

#[test]
fn a_route_without_upgrades_forwards_none_and_an_unrequested_101_is_502() {
    let origin = Origin::fixed(switching("tcp"), Next::Close);
    let gateway = Gateway::start(&format!(
        "routes: [{{ path: /plain, upstream: [{origin}] }}, {{ {ROUTE}, upstream: [{origin}] }}]"
    ));
    let asked = ask(gateway.web(), request("/plain", "tcp"));
    assert_eq!((asked.status, asked.text().contains("bad_response")), (502, true), "{}", asked.text());
    assert_eq!(origin.seen()[0].field("upgrade"), None);
    let unasked = ask(gateway.web(), "GET /raw HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(unasked.status, 502);
}

#[test]
fn a_101_must_name_what_was_offered() {
    let answers = [
        switching("SPDY/3.1"),
        switching("websocket"),
        switching("tcp, foo"),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n".to_owned(),
        switching("tcp").replace("HTTP/1.1", "HTTP/1.0"),
    ];
    for wrong in answers {
        let origin = Origin::fixed(wrong.as_str(), Next::Close);
        let gateway = to(&origin);
        let response = ask(gateway.web(), request("/", "tcp"));
        assert_eq!(response.status, 502, "{wrong}");
        let log = gateway.log().wait(0, &["request failed", "bad_response"]);
        assert!(log.contains("a 101 for a protocol that was not offered"), "{log}");
    }
}

#[test]
fn a_backend_that_refuses_is_heard_and_later_bytes_are_no_request() {
    let origin = Origin::fixed(answer(404, "X-Why: none\r\n", b"no such container"), Next::Keep);
    let gateway = to(&origin);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for behind in ["", smuggled] {
        let mut wire = gateway.wire();
        wire.send(format!("{}{behind}", request("/", "tcp")));
        let response = wire.response();
        assert_eq!((response.status, response.text().as_str()), (404, "no such container"));
        assert_eq!((response.field("x-why"), response.field("connection")), (Some("none"), Some("close")));
        // Bytes after the response are of no protocol.
        let _ = wire.try_send(smuggled);
        wire.half_close();
        assert!(wire.ended());
    }
    assert_eq!(origin.count(), 2);
    // The gateway's own responses end the connection too.
    origin.die();
    let mut wire = gateway.wire();
    wire.send(format!("{}{smuggled}", request("/", "tcp")));
    assert_eq!(wire.response().status, 502);
    assert!(wire.ended());
}

#[test]
fn a_refused_connect_is_retried_and_a_request_without_a_response_is_not() {
    let (dead, alive) = (Origin::named("dead"), echoing("alive"));
    dead.die();
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{dead}', '{alive}'], passive_health: {{ failures: 0 }} }} }}
routes: [{{ {ROUTE}, upstream: all }}]"
    ));
    for _ in 0..6 {
        let mut wire = open(&gateway, request("/", "tcp"));
        wire.send("x");
        assert_eq!(wire.exactly(1).unwrap(), b"x");
    }
    let mute = Origin::scripted("mute", |_, _| Next::Close);
    let other = Origin::scripted("other", |_, _| Next::Close);
    let gateway = Gateway::start(&format!("routes: [{{ {ROUTE}, upstream: ['{mute}', '{other}'] }}]"));
    // It may have run a command (RFC 9110 §9.2.2).
    assert_eq!(ask(gateway.web(), request("/", "tcp")).status, 502);
    assert_eq!(mute.count() + other.count(), 1);
    let idempotent = request("/", "SPDY/3.1").replace("POST", "GET");
    assert_eq!(ask(gateway.web(), idempotent).status, 502);
    assert!(mute.count() + other.count() > 2);
}

#[test]
fn a_pooled_connection_is_not_used_for_an_upgrade() {
    let origin = echoing("a");
    let gateway = to(&origin);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(origin.connections(), 1);
    drop(open(&gateway, request("/", "tcp")));
    assert_eq!(origin.connections(), 2);
}

#[test]
fn websockets_need_no_entry_and_are_chosen_first() {
    let origin = Origin::named("a");
    let gateway = to(&origin);
    Socket::open(gateway.web(), "/ws").echo("hello");
    let both = handshake("/ws", "").replace("Upgrade: websocket", "Upgrade: tcp, websocket");
    let mut wire = gateway.wire();
    wire.send(both);
    let response = wire.response();
    assert_eq!((response.status, response.field("upgrade")), (101, Some("websocket")));
    assert_eq!(origin.seen()[1].fields("upgrade"), ["websocket"]);
}

#[test]
fn a_backend_with_h2c_has_no_upgrade() {
    let backend = Http2::start(None);
    let yaml = format!(
        "upstreams: {{ a: {{ endpoints: ['{}'], protocol: h2c }} }}
routes: [{{ {ROUTE}, upstream: a }}]",
        backend.address
    );
    let gateway = Gateway::start(&yaml);
    let response = ask(gateway.web(), request("/", "tcp"));
    assert_eq!(response.status, 200);
    assert_eq!(backend.last().1.get("upgrade"), None);
    let checked = moongate(&["check", "-c", &gateway.file().display().to_string()]);
    let report = format!("{}{}", lossy(&checked.stdout), lossy(&checked.stderr));
    assert!(report.contains("HTTP/2 has no upgrade, so that `upgrades` has no effect"), "{report}");
}

#[test]
fn plugins_see_the_request_and_the_101_and_may_refuse_either() {
    let origin = echoing("a");
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ path: /closed, upstream: [{origin}], upgrades: [tcp], plugins: [{{ kind: basic_auth, users: {{ a: '{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=' }} }}] }}
  - path: /marked
    upstream: [{origin}]
    upgrades: [tcp]
    plugins: [{{ kind: headers, request: {{ set: {{ X-Asked: '1' }} }}, response: {{ set: {{ X-Seen: '1' }} }} }}]
"
    ));
    assert_eq!(ask(gateway.web(), request("/closed", "tcp")).status, 401);
    assert_eq!(origin.count(), 0);
    let mut wire = gateway.wire();
    wire.send(request("/marked", "tcp"));
    let response = wire.response();
    assert_eq!((response.status, response.field("x-seen")), (101, Some("1")));
    assert_eq!(origin.await_seen(1)[0].field("x-asked"), Some("1"));
    wire.send("x");
    assert_eq!(wire.exactly(1).unwrap(), b"x");
}
