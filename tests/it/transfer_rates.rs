//! Clients that send or read too slowly, and aborted uploads that are not errors.

use crate::support::access_log::AccessLog;
use crate::support::secured::Http2;
use crate::support::{Gateway, LIMIT, Next, Origin, Wire, eventually, h2};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn to(origin: &impl std::fmt::Display, log: &AccessLog, server: &str, route: &str) -> Gateway {
    // The plugin that buffers bodies is one of the example's.
    let start = if route.contains("replace") { Gateway::start_own_whole } else { Gateway::start_whole };
    start(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}server: {{ {server} }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         routes: [{{ upstream: ['{origin}']{route} }}]",
        log.yaml()
    ))
}

const SLOW_BODIES: &str = "body_min_rate: { rate: 10KiB, grace: 500ms }";
const SLOW_READERS: &str = "send_min_rate: { rate: 100MiB, grace: 500ms }";

/// Sends a byte from time to time until the gateway closes.
fn trickle(wire: &mut Wire) {
    let done = AtomicBool::new(false);
    let mut writer = wire.another();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) && std::io::Write::write_all(&mut writer, b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let response = wire.response();
        done.store(true, SeqCst);
        assert_eq!(response.status, 408, "{}{}", response.head, response.text());
        assert!(response.text().contains("body_timeout"), "{}", response.text());
        assert_eq!(response.field("connection"), Some("close"));
    });
}

#[test]
fn a_body_that_trickles_is_ended_with_408() {
    let origin = Origin::named("a");
    // One plugin reads the body in chunks, another one buffers it.
    let whole = ", plugins: [{ kind: replace, whole: 1MiB, request: { from: body, to: LOUD } }]";
    for plugins in ["", ", plugins: [{ kind: body_limit, max_size: 1MiB }]", whole] {
        for framing in ["Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfffff\r\n"] {
            let log = AccessLog::new();
            let gateway = to(&origin, &log, SLOW_BODIES, plugins);
            let mut wire = gateway.wire();
            wire.send(format!("POST /slow HTTP/1.1\r\nHost: a\r\n{framing}"));
            trickle(&mut wire);
            let line = log.of("/slow");
            assert_eq!((&line["status"], &line["error"]), (&408.into(), &"body_timeout".into()));
            let labels = [("reason", "body_timeout")];
            assert_eq!(gateway.metrics().sum("moongate_http_client_aborts_total", &labels), 1.0);
            let labels = [("status", "408")];
            assert_eq!(gateway.metrics().sum("moongate_http_requests_total", &labels), 1.0);
            assert_eq!(
                gateway.metrics().sum("moongate_upstream_failures_total", &[]),
                0.0,
                "no endpoint's fault"
            );
        }
    }
}

#[test]
fn a_body_that_trickles_over_http_2_is_ended_with_408() {
    let origin = Origin::named("a");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, SLOW_BODIES, "");
    let client = h2::Client::connect(gateway.web());
    let head = h2::request("POST", "/slow").header("content-length", "100000");
    let (answer, mut body) = client.begin(head.body(()).unwrap(), false);
    let begun = Instant::now();
    while log.lines().is_empty() {
        assert!(begun.elapsed() < LIMIT);
        let _ = client.write(&mut body, b"x", false);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.read(answer).unwrap().status, 408);
    let line = log.of("/slow");
    assert_eq!((&line["status"], &line["error"]), (&408.into(), &"body_timeout".into()));
}

#[test]
fn a_body_at_the_rate_passes_and_so_does_a_silent_one_where_it_is_off() {
    let origin = Origin::named("a");
    for (server, piece) in [(SLOW_BODIES, 4 << 10), ("body_min_rate: 0", 10)] {
        let log = AccessLog::new();
        let gateway = to(&origin, &log, server, "");
        let mut wire = gateway.wire();
        wire.send(format!("POST /steady HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 10 * piece));
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(150));
            wire.send("x".repeat(piece));
        }
        assert_eq!(wire.response().status, 200);
    }
}

#[test]
fn a_backend_that_reads_slowly_is_not_the_client_s_fault() {
    // It reads nothing for longer than the grace, while its client would send.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut wire = Wire::of(stream);
        wire.head().unwrap();
        gone.recv_timeout(LIMIT).unwrap();
        wire.exactly(32 << 20).unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        wire.rest();
    });
    let log = AccessLog::new();
    let gateway = to(&address, &log, SLOW_BODIES, "");
    let mut wire = gateway.wire();
    wire.send(format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 32 << 20));
    let (stream, _) = wire.into_parts();
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &vec![7; 32 << 20]));
    std::thread::sleep(Duration::from_millis(1500));
    go.send(()).unwrap();
    let mut wire = Wire::of(stream);
    wire.patience(LIMIT);
    assert_eq!(wire.response().text(), "ok");
    sending.join().unwrap().unwrap();
}

#[test]
fn a_reader_that_takes_nothing_or_little_is_cut() {
    let body = vec![7; 64 << 20];
    let origin = Origin::fixed(crate::support::origin::answer(200, "", &body), Next::Close);
    let log = AccessLog::new();
    let gateway = to(&origin, &log, SLOW_READERS, "");
    let mut wire = gateway.wire();
    wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = eventually("the cut", || {
        // Small amounts are too little.
        let _ = wire.exactly(64 << 10);
        log.lines().into_iter().next()
    });
    assert_eq!((&line["status"], &line["error"]), (&200.into(), &"send_timeout".into()), "{line}");

    let client = h2::Client::connect(gateway.web());
    let (_answer, _) = client.begin(h2::get("/h2"), true);
    assert_eq!(log.of("/h2")["error"], "send_timeout");
}

#[test]
fn a_reader_that_is_slow_and_above_the_rate_is_not_cut() {
    let body = vec![7; 64 << 20];
    let origin = Origin::fixed(crate::support::origin::answer(200, "", &body), Next::Close);
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "send_min_rate: { rate: 1KiB, grace: 300ms }", "");
    let mut wire = gateway.wire();
    wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    // Far longer than the grace, and so little that the kernel's buffer stays full meanwhile.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        wire.exactly(16 << 10).expect("the response goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(wire);
    assert_eq!(log.of("/slow")["error"], "client_gone");
}

#[test]
fn a_response_that_its_backend_sends_slowly_is_not_the_reader_s_fault() {
    let origin = Origin::scripted("a", |_, wire| {
        wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n").unwrap();
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(250));
            wire.try_send("x").unwrap();
        }
        Next::Keep
    });
    let log = AccessLog::new();
    let gateway = to(&origin, &log, SLOW_READERS, "");
    let mut wire = gateway.wire();
    wire.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().text(), "xxxxxx");
    assert_eq!(h2::Client::connect(gateway.web()).ask(h2::get("/b"), &[]).text(), "xxxxxx");
}

#[test]
fn calls_and_refusals_that_end_before_their_upload_are_not_their_client_s_fault() {
    let backend = Http2::start(None);
    let log = AccessLog::new();
    let origin = Origin::scripted("refuses", |_, wire| {
        let _ = wire.try_send(crate::support::origin::answer(413, "Connection: close\r\n", b"no"));
        Next::Close
    });
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams: {{ all: {{ endpoints: ['{}'], protocol: h2c }} }}\n\
         routes:\n  - {{ path: /limited, upstream: all, plugins: [{{ kind: body_limit, max_size: 10B }}] }}\n  \
                   - {{ path: /refused, upstream: ['{origin}'] }}\n  - {{ upstream: all }}",
        log.yaml(),
        backend.address
    ));
    // A call whose service responds at once, and whose client then resets its stream.
    let client = h2::Client::connect(gateway.web());
    let head =
        h2::request("POST", "/grpc/none").header("content-type", "application/grpc").header("te", "trailers");
    let (answer, body) = client.begin(head.body(()).unwrap(), false);
    assert_eq!(client.read(answer).unwrap().headers["grpc-status"], "5");
    drop(body);
    let line = log.of("/grpc/none");
    assert_eq!((&line["status"], &line["error"]), (&200.into(), &serde_json::Value::Null), "{line}");
    // A body above a plugin's limit, in both protocols; its client leaves after the response.
    let mut wire = gateway.wire();
    wire.send(
        "POST /limited/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx",
    );
    assert_eq!(wire.response().status, 413);
    drop(wire);
    let mut wire = gateway.wire();
    wire.send("POST /limited/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
    assert_eq!(wire.response().status, 413);
    drop(wire);
    let (answer, mut body) = client.begin(h2::request("POST", "/limited/3").body(()).unwrap(), false);
    let _ = client.write(&mut body, &[7; 100], false);
    assert_eq!(client.read(answer).unwrap().status, 413);
    drop(body);
    for path in ["/limited/1", "/limited/2", "/limited/3"] {
        let line = log.of(path);
        assert_eq!(line["status"], 413, "{line}");
        assert_ne!(line["error"], "client_gone", "{line}");
    }
    // The backend's own rejection.
    let mut wire = gateway.wire();
    wire.send("POST /refused/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(wire.response().status, 413);
    let line = log.of("/refused/1");
    assert_eq!((&line["status"], &line["error"]), (&413.into(), &serde_json::Value::Null), "{line}");
}
