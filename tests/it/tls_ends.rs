//! Ends of TLS connections: each has its closing alert (RFC 8446 §6.1), on either side and for every cause.

use crate::moved_websockets::upgraded;
use crate::support::certs::{Authority, Client, Secure};
use crate::support::raw::ask;
use crate::support::secured::{Front, Issuer, Life, Selecting, quoted};
use crate::support::ws::{handshake, masked};
use crate::support::{Gateway, Next, Origin, eventually};
use std::io::ErrorKind;
use std::sync::atomic::Ordering::SeqCst;

const CLOSE: u8 = 8;
const TEXT: u8 = 1;
/// An alert that is sometimes missing is missing in a few of these.
const TIMES: usize = 50;

struct Setup {
    _authority: Authority,
    client: Client,
    gateway: Gateway,
}

/// A gateway with TLS at its listener.
fn start(server: &str, rest: &str) -> Setup {
    let authority = Authority::new();
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
server: {{ threads: 2{server} }}
listeners: [{{ name: web, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}]
{rest}",
        quoted(&pair.cert),
        quoted(&pair.key)
    ));
    Setup { client: authority.client(), _authority: authority, gateway }
}

impl Setup {
    fn open(&self, path: &str) -> Secure {
        let mut secure = self.client.connect(self.gateway.web(), "localhost").unwrap();
        assert_eq!(secure.ask(&handshake(path, "")).unwrap().status, 101);
        secure
    }
}

/// The frames up to the end of the connection end with a Close frame of this code.
#[track_caller]
fn ends_with(secure: &mut Secure, code: u16) {
    let bytes = secure.rest().unwrap_or_else(|cut| panic!("{cut:?}"));
    let close = bytes.iter().rposition(|byte| *byte == 0x80 | CLOSE).map(|at| &bytes[at + 2..]);
    assert_eq!(close.and_then(|body| body.first_chunk()), Some(&code.to_be_bytes()), "{bytes:?}");
}

#[test]
fn a_websocket_that_a_client_closes_ends_with_the_alert() {
    let origin = Origin::named("a");
    let setup = start("", &format!("routes: [{{ upstream: [{origin}] }}]"));
    for _ in 0..TIMES {
        let mut secure = setup.open("/");
        secure.send(&masked(TEXT, b"hello")).unwrap();
        secure.send(&masked(CLOSE, &1000_u16.to_be_bytes())).unwrap();
        ends_with(&mut secure, 1000);
    }
}

#[test]
fn a_websocket_that_has_lost_its_backend_ends_with_the_alert() {
    let origin = Origin::named("a");
    let setup =
        start("", &format!("routes: [{{ upstream: [{origin}], websocket: {{ close_timeout: 1s }} }}]"));
    let mut all: Vec<_> = (0..TIMES).map(|_| setup.open("/")).collect();
    origin.die();
    for (number, secure) in all.iter_mut().enumerate() {
        // Half of the clients respond to the Close frame.
        if number % 2 == 0 {
            secure.send(&masked(CLOSE, &1001_u16.to_be_bytes())).unwrap();
        }
        ends_with(secure, 1001);
    }
}

#[test]
fn a_websocket_that_the_gateway_closes_ends_with_the_alert() {
    let origin = Origin::named("a");
    let close = "close_timeout: 200ms, drain_window: 0s";
    let setup = start(
        "",
        &format!(
            "routes:
  - {{ path: /idle, upstream: [{origin}], websocket: {{ idle_timeout: 200ms, {close} }} }}
  - {{ path: /old, upstream: [{origin}], websocket: {{ max_age: 200ms, {close} }} }}
  - {{ path: /dead, upstream: [{origin}], websocket: {{ ping_interval: 100ms, ping_timeout: 200ms, {close} }} }}
  - {{ path: /strict, upstream: [{origin}], websocket: {{ {close} }} }}
"
        ),
    );
    let open = |path: &str| (0..TIMES).map(|_| setup.open(path)).collect::<Vec<_>>();
    open("/idle").iter_mut().for_each(|secure| ends_with(secure, 1001));
    open("/old").iter_mut().for_each(|secure| ends_with(secure, 1012));
    for secure in &mut open("/strict") {
        // Not masked.
        secure.send(&[0x80 | TEXT, 0]).unwrap();
        ends_with(secure, 1002);
    }
    // A client that does not respond to pings gets no Close frame.
    for secure in &mut open("/dead") {
        secure.rest().unwrap_or_else(|cut| panic!("{cut:?}"));
    }
    let mut last = open("/strict");
    setup.gateway.signal("TERM");
    last.iter_mut().for_each(|secure| ends_with(secure, 1012));
}

#[test]
fn a_moved_websocket_ends_with_the_alert_in_its_last_process_alone() {
    let origin = Origin::named("a");
    let setup =
        start("", &format!("routes: [{{ upstream: [{origin}], websocket: {{ close_timeout: 200ms }} }}]"));
    let mut all: Vec<_> = (0..TIMES).map(|_| setup.open("/")).collect();
    assert_eq!(upgraded(&setup.gateway), (TIMES as u64, 0));
    for secure in &mut all {
        secure.send(&masked(TEXT, b"hello")).unwrap();
        assert_eq!(secure.exactly(7).unwrap(), b"\x81\x05hello");
    }
    let mut lost = all.split_off(TIMES / 2);
    for secure in &mut all {
        secure.send(&masked(CLOSE, &1000_u16.to_be_bytes())).unwrap();
        ends_with(secure, 1000);
    }
    origin.die();
    lost.iter_mut().for_each(|secure| ends_with(secure, 1001));
}

#[test]
fn a_websocket_that_the_new_process_refuses_goes_on_in_the_old_one() {
    let origin = Origin::named("a");
    let setup = start(
        "",
        &format!(
            "routes: [{{ upstream: [{origin}], websocket: {{ drain_window: 2s }}, plugins: [{{ kind: message_filter, name: first, max_size: 1KiB }}] }}]"
        ),
    );
    let mut all: Vec<_> = (0..10).map(|_| setup.open("/")).collect();
    let file = std::fs::read_to_string(setup.gateway.file()).unwrap();
    setup.gateway.write_whole(&file.replace("name: first", "name: second"));
    assert_eq!(upgraded(&setup.gateway), (0, 10));
    for secure in &mut all {
        secure.send(&masked(TEXT, b"hello")).unwrap();
        ends_with(secure, 1012);
    }
}

#[test]
fn a_connection_of_http_1_ends_with_the_alert() {
    let origin = Origin::named("a");
    let setup =
        start(", keepalive_timeout: 100ms", &format!("routes: [{{ path: /a, upstream: [{origin}] }}]"));
    let requests = [
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200"),
        ("GET /a HTTP/1.0\r\n\r\n", "HTTP/1.1 200"),
        ("GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 404"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400"),
        ("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\n1", "HTTP/1.1 404"),
    ];
    for (request, status) in requests {
        let connect = || setup.client.connect(setup.gateway.web(), "localhost").unwrap();
        let mut all: Vec<_> = (0..TIMES).map(|_| connect()).collect();
        all.iter_mut().for_each(|secure| secure.send(request.as_bytes()).unwrap());
        for secure in &mut all {
            let text = secure.rest().unwrap_or_else(|cut| panic!("{request:?}: {cut:?}"));
            assert!(text.starts_with(status.as_bytes()), "{request:?}: {}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn a_response_that_its_end_would_complete_has_no_alert_if_it_is_cut() {
    let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let (cut, whole) =
        (Origin::fixed(half, Next::Close), Origin::fixed(format!("{half}0\r\n\r\n"), Next::Close));
    let setup =
        start("", &format!("routes: [{{ path: /cut, upstream: [{cut}] }}, {{ upstream: [{whole}] }}]"));
    let get = |path: &str| {
        let mut secure = setup.client.connect(setup.gateway.web(), "localhost").unwrap();
        // HTTP/1.0 has no chunks.
        secure.send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        secure.rest()
    };
    for _ in 0..TIMES {
        assert!(get("/").unwrap().ends_with(b"\r\n\r\nhalf"));
        assert_eq!(get("/cut").unwrap_err().0.kind(), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_connection_of_http_2_ends_with_the_alert() {
    let origin = Origin::named("a");
    let setup = start(", keepalive_timeout: 100ms", &format!("routes: [{{ upstream: [{origin}] }}]"));
    let client = setup.client.clone().offering(&["h2"]);
    // The preface with empty SETTINGS; GOAWAY follows when the connection was idle. And a frame that is an error.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for more in [&b""[..], b"\x00\x00\x01\x06\x00\x00\x00\x00\x01\x00"] {
        let connect = || client.connect(setup.gateway.web(), "localhost").unwrap();
        let mut all: Vec<_> = (0..TIMES).map(|_| connect()).collect();
        all.iter_mut().for_each(|secure| secure.send(&[&preface[..], more].concat()).unwrap());
        for secure in &mut all {
            let bytes = secure.rest().unwrap_or_else(|cut| panic!("{more:?}: {cut:?}"));
            assert!(!bytes.is_empty());
        }
    }
}

#[test]
fn connections_to_backends_end_with_the_alert() {
    let (origin, issuer) = (Origin::named("a"), Issuer::new());
    let front = Front::start(Some(issuer.server(&["localhost"], Life::Now, false)), false, origin.address());
    let setup = start(
        "",
        &format!(
            "upstreams: {{ all: {{ endpoints: ['localhost:{}'], keepalive_timeout: 100ms, tls: {{ ca: {} }} }} }}
routes: [{{ upstream: all, websocket: {{ close_timeout: 200ms }} }}]",
            front.address.port(),
            quoted(&issuer.file("ca.pem"))
        ),
    );
    let seen = &front.seen;
    let ended = |count: usize| {
        eventually("every connection ends", || (seen.ended.load(SeqCst) >= count).then_some(()));
        assert_eq!(seen.ragged.load(SeqCst), 0, "of {count}");
    };
    // WebSockets that the client closes, and those whose client is gone.
    for number in 0..TIMES {
        let mut secure = setup.open("/");
        if number % 2 == 0 {
            secure.send(&masked(CLOSE, &1000_u16.to_be_bytes())).unwrap();
            ends_with(&mut secure, 1000);
        }
    }
    ended(TIMES);
    // Idle connections of the pool, and one whose client leaves before the response.
    let mut pooled = setup.client.connect(setup.gateway.web(), "localhost").unwrap();
    assert_eq!(pooled.get("localhost", "/").unwrap().status, 200);
    ended(TIMES + 1);
    // The admin address has no TLS, so an order is plain.
    let mut last = setup.open("/");
    let rows = crate::support::get(setup.gateway.admin(), "/api/v1/sockets").json();
    let id = rows["rows"][0]["id"].clone();
    let order =
        format!("POST /api/v1/sockets/{id}/close HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let closed = ask(setup.gateway.admin(), order);
    assert!(closed.status < 300, "{}", closed.text());
    ends_with(&mut last, 1012);
    ended(TIMES + 2);
}

#[test]
fn connections_to_http_2_backends_end_with_the_alert() {
    let (origin, issuer) = (Origin::named("a"), Issuer::new());
    let backend = Selecting::start(issuer.server(&["localhost"], Life::Now, false), origin.address());
    backend.selects_h2.store(true, SeqCst);
    let upstream = |name: &str, keep: &str| {
        format!(
            "{name}: {{ endpoints: ['localhost:{}'], protocol: h2, keepalive_timeout: {keep}, tls: {{ ca: {} }} }}",
            backend.address.port(),
            quoted(&issuer.file("ca.pem"))
        )
    };
    let gateway = Gateway::start(&format!(
        "upstreams: {{ {}, {} }}
routes: [{{ path: /short, upstream: short }}, {{ path: /none, upstream: none }}]",
        upstream("short", "100ms"),
        upstream("none", "0s"),
    ));
    let [ended, ragged] = &*backend.ended;
    let all_ended = |count: usize| {
        eventually("every connection ends", || (ended.load(SeqCst) >= count).then_some(()));
        assert_eq!(ragged.load(SeqCst), 0, "of {count}");
    };
    for path in ["/short", "/none"] {
        let before = ended.load(SeqCst);
        for count in 1..=TIMES {
            assert_eq!(gateway.get(path).text(), "two");
            all_ended(before + count);
        }
    }
}

#[test]
fn idle_connections_to_backends_end_with_the_alert_when_their_worker_ends() {
    let (origin, issuer) = (Origin::named("a"), Issuer::new());
    for (signal, h2) in [("TERM", true), ("INT", true), ("TERM", false), ("INT", false)] {
        let tls = || issuer.server(&["localhost"], Life::Now, false);
        let newer = Selecting::start(tls(), origin.address());
        newer.selects_h2.store(true, SeqCst);
        let older = Front::start(Some(tls()), false, origin.address());
        let (port, protocol) =
            if h2 { (newer.address.port(), "h2") } else { (older.address.port(), "http1") };
        // A connection of each upstream.
        let each = |line: &dyn Fn(usize) -> String| (0..TIMES).map(line).collect::<Vec<_>>().join(", ");
        let gateway = Gateway::start(&format!(
            "server: {{ threads: 1 }}
upstreams: {{ {} }}
routes: [{}]",
            each(&|number| format!(
                "u{number}: {{ endpoints: ['localhost:{port}'], protocol: {protocol}, tls: {{ ca: {} }} }}",
                quoted(&issuer.file("ca.pem"))
            )),
            each(&|number| format!("{{ path: /{number}, upstream: u{number} }}")),
        ));
        for number in 0..TIMES {
            assert_eq!(gateway.get(&format!("/{number}")).status, 200);
        }
        let ends = || {
            let newer =
                [newer.handshakes.load(SeqCst), newer.ended[0].load(SeqCst), newer.ended[1].load(SeqCst)];
            let seen = &older.seen;
            let older = [seen.handshakes.load(SeqCst), seen.ended.load(SeqCst), seen.ragged.load(SeqCst)];
            if h2 { newer } else { older }
        };
        assert_eq!(ends(), [TIMES, 0, 0]);
        gateway.signal(signal);
        eventually("every connection ends", || (ends()[1] == TIMES).then_some(()));
        assert_eq!(ends()[2], 0, "{signal} {protocol}");
    }
}

#[test]
fn the_alert_of_a_backend_is_answered() {
    let (issuer, tls) = (Issuer::new(), |issuer: &Issuer| issuer.server(&["localhost"], Life::Now, false));
    // Both keep the connection, and the backends end it.
    let leaving = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Next::Close);
    let older = Front::start(Some(tls(&issuer)), false, leaving.address());
    let newer = Selecting::start(tls(&issuer), leaving.address());
    newer.selects_h2.store(true, SeqCst);
    let ca = quoted(&issuer.file("ca.pem"));
    let gateway = Gateway::start(&format!(
        "upstreams:
  older: {{ endpoints: ['localhost:{}'], tls: {{ ca: {ca} }} }}
  newer: {{ endpoints: ['localhost:{}'], protocol: h2, tls: {{ ca: {ca} }} }}
routes: [{{ path: /goodbye, upstream: newer }}, {{ upstream: older }}]",
        older.address.port(),
        newer.address.port()
    ));
    for _ in 0..TIMES {
        assert_eq!(gateway.get("/").status, 200);
    }
    // The connection ends with GOAWAY before the response.
    assert_eq!(gateway.get("/goodbye").status, 502);
    eventually("the connections end", || {
        (older.seen.ended.load(SeqCst) == TIMES && newer.ended[0].load(SeqCst) == 1).then_some(())
    });
    assert_eq!((older.seen.ragged.load(SeqCst), newer.ended[1].load(SeqCst)), (0, 0));
}
