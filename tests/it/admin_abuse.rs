//! Slow, silent, invalid and fast clients of the admin address, while others are served.

use crate::support::metrics::Metrics;
use crate::support::raw::ask;
use crate::support::{Gateway, LIMIT, Response, Wire, eventually, get};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Connections that may request everything.
const CONNECTIONS: usize = 256;

const SHORT: Duration = Duration::from_millis(20);

fn start(server: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "server: {{ {server} }}
admin: {{ address: 127.0.0.1:0, token: secret }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: [127.0.0.1:1] }}]"
    ))
}

/// The number of log lines so far that contain the text.
fn logged(gateway: &Gateway, needle: &str) -> usize {
    let mark = gateway.log().mark();
    gateway.signal("HUP");
    // Lines are written in order: earlier ones are present with this one.
    gateway.log().wait(mark, &["configuration reloaded"]);
    gateway.log().count(0, needle)
}

fn scrape(admin: SocketAddr) -> Response {
    ask(
        admin,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer secret\r\n\r\n",
    )
}

/// Sends a byte from time to time until there is a response or the end.
fn drip(wire: &mut Wire) {
    wire.patience(SHORT);
    eventually("the slow head is cut", || {
        let sent = wire.try_send("a");
        match wire.fill() {
            Ok(_) => Some(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error} without a response; {sent:?}"),
        }
    });
    wire.patience(LIMIT);
}

#[test]
fn slow_clients_do_not_hold_the_admin_address() {
    let gateway = start("header_timeout: 1h");
    let admin = gateway.admin();
    let mut slow: Vec<_> = (0..CONNECTIONS + 44).map(|_| Wire::connect(admin)).collect();
    for round in 0..3 {
        for wire in &mut slow {
            // The oldest are closed meanwhile.
            let _ = wire.try_send(if round == 0 { "GET /healthz HTTP/1.1\r\nX: " } else { "a" });
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(get(admin, path).status, 200, "{path}");
        }
        assert_eq!(scrape(admin).status, 200);
    }
    let evicted = Metrics::new(scrape(admin).text()).sum("moongate_admin_connections_evicted_total", &[]);
    assert!(evicted >= 44.0, "{evicted}");
    gateway.log().wait(0, &["admin connection evicted"]);
    assert_eq!(logged(&gateway, "admin connection evicted"), 1, "one line for all of them");
}

#[test]
fn an_authenticated_connection_outlives_an_attack() {
    let gateway = start("header_timeout: 1h");
    let admin = gateway.admin();
    let mut kept = Wire::connect(admin);
    let request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n";
    kept.send(request);
    assert_eq!(kept.response().status, 200);
    let _slow: Vec<_> = (0..CONNECTIONS + 44).map(|_| Wire::connect(admin)).collect();
    kept.send(request);
    assert_eq!(kept.response().status, 200);
}

#[test]
fn clients_that_connect_fast_do_not_displace_others() {
    let gateway = start("header_timeout: 1h");
    let admin = gateway.admin();
    let (over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            while !over.load(Relaxed) {
                // 127.0.0.0/8 is local: this client has another address than the test.
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
                if socket.connect(&admin.into()).is_ok() {
                    open.push_back(Wire::of(TcpStream::from(socket)));
                    connected.fetch_add(1, Relaxed);
                }
                if open.len() > 2 * CONNECTIONS {
                    open.pop_front();
                }
            }
        });
        eventually("every place is taken", || (connected.load(Relaxed) > 2 * CONNECTIONS).then_some(()));
        for _ in 0..50 {
            // A probe that pauses within its header is no attack.
            let mut probe = Wire::connect(admin);
            probe.send("GET /healthz HTTP/1.1\r\n");
            assert_eq!(scrape(admin).status, 200);
            probe.send("Host: localhost\r\n\r\n");
            assert_eq!(probe.response().status, 200);
        }
        over.store(true, Relaxed);
    });
}

#[test]
fn a_slow_head_gets_408_on_the_first_request_and_on_a_later_one() {
    let gateway = start("header_timeout: 300ms");
    let mut wire = Wire::connect(gateway.admin());
    wire.send("GET /healthz HTTP/1.1\r\nX: ");
    drip(&mut wire);
    assert_eq!(wire.response().status, 408);
    assert!(wire.ended());

    let mut wire = Wire::connect(gateway.admin());
    wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().status, 200);
    wire.send("GET /healthz HTTP/1.1\r\nX: ");
    drip(&mut wire);
    assert_eq!(wire.response().status, 408);
    assert!(wire.ended());
}

#[test]
fn a_client_that_sends_nothing_is_closed_before_and_between_requests() {
    let gateway = start("header_timeout: 300ms");
    assert!(Wire::connect(gateway.admin()).ended());
    let mut wire = Wire::connect(gateway.admin());
    wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().status, 200);
    assert!(wire.ended(), "an idle connection is kept for seconds");
}

#[test]
fn a_client_that_reads_nothing_is_closed() {
    // A status that exceeds the buffers of a connection.
    let endpoints: Vec<_> = (1..=5000).map(|port| format!("'127.0.0.1:{port}'")).collect();
    let gateway = Gateway::start_whole(&format!(
        "server: {{ send_timeout: 1s }}
admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: [{}] }}]",
        endpoints.join(", ")
    ));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    assert!(get(gateway.admin(), "/api/v1/status").body.len() > 500_000);
    let before = descriptors();
    let unread: Vec<_> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&gateway.admin().into()).unwrap();
            let mut wire = Wire::of(TcpStream::from(socket));
            wire.send("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire
        })
        .collect();
    // An earlier connection may still be closing.
    let most = before + unread.len() / 2;
    eventually("the connections are open", || (descriptors() > most).then_some(()));
    eventually("the connections are closed", || (descriptors() < most).then_some(()));
}

#[test]
fn pipelined_requests_get_their_responses_in_order() {
    let gateway = start("");
    let mut wire = Wire::connect(gateway.admin());
    let request = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{rest}");
    let bearer = "Authorization: Bearer secret\r\n\r\n";
    wire.send(
        [
            request("GET /healthz", "\r\n"),
            request("POST /nothing", &format!("Content-Length: 4\r\n{bearer}GET ")),
            request("GET /readyz", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            request("GET /metrics", "\r\n"),
            request("GET /healthz", "Connection: close\r\n\r\n"),
        ]
        .concat(),
    );
    for status in [200, 404, 200, 401, 200] {
        assert_eq!(wire.response().status, status);
    }
    assert!(wire.ended());
}

#[test]
fn a_body_that_does_not_come_ends_the_connection_after_the_response() {
    let gateway = start("");
    let mut wire = Wire::connect(gateway.admin());
    wire.send("POST /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let response = wire.response();
    assert_eq!((response.status, response.field("connection")), (405, Some("close")));
    wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.ended(), "what comes then is no request");
}

#[test]
fn a_large_head_gets_431_and_a_wrong_one_400() {
    let gateway = start("");
    let admin = gateway.admin();
    let head = |size: usize| format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(size));
    assert_eq!(ask(admin, format!("{}\r\n", head(12 << 10))).status, 200);
    assert_eq!(ask(admin, format!("{}\r\n", head(20 << 10))).status, 431);
    assert_eq!(ask(admin, head(40 << 10)).status, 431, "also before its end");
    for wrong in [
        "GET /healthz HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nX : y\r\n\r\n",
        "GET /heal thz HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        assert_eq!(ask(admin, wrong).status, 400, "{wrong:?}");
    }
}

#[test]
fn aborted_connections_leave_no_error_in_the_log() {
    let gateway = start("header_timeout: 300ms, send_timeout: 300ms");
    let admin = gateway.admin();
    for half in [
        "",
        "GET",
        "GET /healthz HTTP/1.1\r\nX: ",
        "\u{16}\u{3}\u{1}\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
    ] {
        let mut wire = Wire::connect(admin);
        wire.send(half);
        wire.half_close();
        // The gateway logs before it closes.
        wire.rest();
    }
    let mut unread = Wire::connect(admin);
    unread.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100));
    drop(unread);
    let mut silent = Wire::connect(admin);
    silent.send("GET /healthz HTTP/1.1\r\nX: ");
    assert_eq!(silent.response().status, 408);
    assert_eq!(get(admin, "/healthz").status, 200);
    for level in ["ERROR", "WARN"] {
        assert_eq!(logged(&gateway, level), 0, "{level}");
    }
}
