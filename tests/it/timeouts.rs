//! Timeouts of a backend: to its response header (`timeout`), and within the response
//! (`stream_idle_timeout`). And the meaning of `0s` for each duration.

use crate::support::access_log::AccessLog;
use crate::support::secured::Http2;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, eventually, h2, moongate};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";

/// A backend that sends the header after one gate, and the body after another.
fn paced(media: &'static str) -> (Origin, [Arc<Gate>; 2]) {
    let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
    let [head, body] = gates.clone();
    let origin = Origin::scripted("paced", move |_, wire| {
        head.pass_within(LIMIT);
        let length = if media.is_empty() { "" } else { media };
        if wire.try_send(format!("HTTP/1.1 200 OK\r\n{length}Content-Length: 4\r\n\r\n")).is_err() {
            return Next::Close;
        }
        body.pass_within(LIMIT);
        wire.try_send("body").map_or(Next::Close, |()| Next::Keep)
    });
    (origin, gates)
}

fn to(origin: &impl std::fmt::Display, log: &AccessLog, route: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         routes: [{{ upstream: ['{origin}'], {route} }}]",
        log.yaml()
    ))
}

#[test]
fn the_time_to_the_head_and_the_silence_in_a_body_are_two() {
    // The header is late.
    let (origin, gates) = paced("");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 300ms, stream_idle_timeout: 1h");
    let mut wire = gateway.wire();
    wire.send(GET);
    let response = wire.response();
    assert_eq!(response.status, 504, "{}", response.head);
    assert!(response.text().contains("response_timeout"));
    gates[0].open();
    // The header is in time, and the body needs not be.
    let mut wire = gateway.wire();
    wire.send(GET);
    wire.head().unwrap();
    std::thread::sleep(Duration::from_millis(900));
    gates[1].open();
    assert_eq!(wire.exactly(4).unwrap(), b"body");

    // The reverse.
    let (origin, gates) = paced("");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 1h, stream_idle_timeout: 300ms");
    let mut wire = gateway.wire();
    wire.send(GET);
    origin.await_seen(1);
    std::thread::sleep(Duration::from_millis(900));
    gates[0].open();
    wire.head().unwrap();
    assert!(wire.ended(), "the body is cut");
    let line = log.of("/get");
    assert_eq!((&line["status"], &line["error"]), (&200.into(), &"stream_idle_timeout".into()));
}

#[test]
fn both_hold_for_http_2_on_either_side() {
    for slow_head in [true, false] {
        let (origin, gates) = paced("");
        if !slow_head {
            gates[0].open();
        }
        let log = AccessLog::new();
        let route = if slow_head {
            "timeout: 300ms, stream_idle_timeout: 1h"
        } else {
            "timeout: 1h, stream_idle_timeout: 300ms"
        };
        let gateway = to(&origin, &log, route);
        let client = h2::Client::connect(gateway.web());
        let answer = client.try_ask(h2::get("/get"), &[]);
        if slow_head {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 504);
            assert!(answer.text().contains("response_timeout"), "{}", answer.text());
        } else {
            answer.unwrap_err();
            assert_eq!(log.of("/get")["error"], "stream_idle_timeout");
        }
    }
    let backend = Http2::start(None);
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{}'], protocol: h2c }} }}\nroutes: [{{ upstream: all, timeout: 300ms }}]",
        backend.address
    ));
    let response = gateway.get("/silent");
    assert_eq!(response.status, 504, "{}", response.head);
    assert_eq!(gateway.get("/").text(), "two", "its connection is as good as before");
}

#[test]
fn what_is_sent_either_way_is_no_silence() {
    // An upload that takes longer than the timeout, and then a response that does.
    let origin = Origin::scripted("a", move |seen, wire| {
        let pieces = seen.body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {pieces}\r\n\r\n");
        wire.try_send(head).unwrap();
        for _ in 0..pieces {
            std::thread::sleep(Duration::from_millis(200));
            if wire.try_send("x").is_err() {
                return Next::Close;
            }
        }
        Next::Keep
    });
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 600ms, stream_idle_timeout: 600ms");
    let mut wire = gateway.wire();
    wire.send("POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(200));
        wire.send("x");
    }
    assert_eq!(wire.response().text(), "xxxxxx");
}

#[test]
fn a_slow_reader_is_no_silence_of_the_backend() {
    // The backend has sent everything long before its client has read it.
    let body = vec![7; 24 << 20];
    let origin = Origin::fixed(crate::support::origin::answer(200, "", &body), Next::Keep);
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 400ms, stream_idle_timeout: 400ms");
    let mut wire = gateway.wire();
    wire.send(GET);
    wire.head().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(wire.exactly(body.len()).unwrap() == body);
}

#[test]
fn event_streams_and_calls_of_grpc_may_be_silent_by_default() {
    // The default for others is a minute: the test covers that the response's type is detected, with a
    // shorter limit.
    let (origin, gates) = paced("Content-Type: text/event-stream; charset=utf-8\r\n");
    gates[0].open();
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 300ms");
    let mut wire = gateway.wire();
    wire.send(GET);
    wire.head().unwrap();
    std::thread::sleep(Duration::from_millis(900));
    gates[1].open();
    assert_eq!(wire.exactly(4).unwrap(), b"body");
}

#[test]
fn a_call_of_grpc_is_bounded_by_the_silence_of_both_sides() {
    let backend = Http2::start(None);
    let log = AccessLog::new();
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\n\
         upstreams: {{ all: {{ endpoints: ['{}'], protocol: h2c }} }}\n\
         routes: [{{ upstream: all, timeout: 300ms, stream_idle_timeout: 1s }}]",
        log.yaml(),
        backend.address
    ));
    let client = h2::Client::connect(gateway.web());
    let head =
        h2::request("POST", "/grpc/chat").header("content-type", "application/grpc").header("te", "trailers");
    let (answer, mut body) = client.begin(head.body(()).unwrap(), false);
    let begun = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        client.write(&mut body, b"x", false).unwrap();
    }
    assert!(begun.elapsed() > Duration::from_secs(1));
    client.read(answer).unwrap_err();
    assert_eq!(log.of("/grpc/chat")["error"], "stream_idle_timeout");
}

#[test]
fn a_time_of_0_is_no_limit() {
    let (origin, gates) = paced("");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "timeout: 0s, stream_idle_timeout: 0s");
    let mut wire = gateway.wire();
    wire.send(GET);
    origin.await_seen(1);
    std::thread::sleep(Duration::from_millis(300));
    gates[0].open();
    wire.head().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    gates[1].open();
    assert_eq!(wire.exactly(4).unwrap(), b"body");
    let mut socket = crate::support::Socket::open_with(gateway.web(), "/", &[]);
    assert!(socket.as_mut().is_err(), "a backend that is no WebSocket's answers all the same");
    eventually("the lines", || (log.lines().len() == 2).then_some(()));
}

/// The keys for which zero is an error, each with its place in a file.
const POSITIVE: &[&str] = &[
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], connect_timeout: 0s } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], resolve: 0s } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], health_check: { kind: tcp, interval: 0s } } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], health_check: { kind: http, path: /, timeout: 0s } } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], rebalance: { window: 0s } } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], balance: { kind: sticky, max_age: 0s } } }",
    "routes: [{ upstream: ['127.0.0.1:1'], plugins: [{ kind: maintenance, retry_after: 0s }] }]",
    "routes: [{ upstream: ['127.0.0.1:1'], websocket: { ping_timeout: 0s } }]",
    "routes: [{ upstream: ['127.0.0.1:1'], websocket: { handshake_timeout: 0s } }]",
    "routes: [{ upstream: ['127.0.0.1:1'], websocket: { reconnect_timeout: 0s } }]",
    "routes: [{ upstream: ['127.0.0.1:1'], plugins: [{ kind: mirror, upstream: a, timeout: 0s }] }]",
    "routes: [{ upstream: ['127.0.0.1:1'], plugins: [{ kind: forward_auth, url: 'http://127.0.0.1:1/', timeout: 0s }] }]",
];

/// The keys for which zero has a meaning.
const ZERO: &[&str] = &[
    "server: { header_timeout: 0s, keepalive_timeout: 0s, body_timeout: 0s, send_timeout: 0 }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], keepalive_timeout: 0s } }",
    "server: { drain_delay: 0s, grace_period: 0s, body_min_rate: { grace: 0s }, send_min_rate: { rate: 0 } }",
    "upstreams: { a: { endpoints: ['127.0.0.1:1'], slow_start: 0s, passive_health: { eject_for: 0s } } }",
    "routes: [{ upstream: ['127.0.0.1:1'], timeout: 0s, stream_idle_timeout: 0s }]",
    "routes: [{ upstream: ['127.0.0.1:1'], websocket: { idle_timeout: 0s, ping_interval: 0s, max_age: 0s, drain_window: 0s, \
     close_timeout: 0s, write_timeout: 0s } }]",
];

fn check(yaml: &str) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    let routes = if yaml.starts_with("routes") { "" } else { "\nroutes: [{ upstream: ['127.0.0.1:1'] }]" };
    let listeners = "listeners: [{ address: 127.0.0.1:0 }]";
    std::fs::write(&file, format!("{yaml}{routes}\n{listeners}\n")).unwrap();
    moongate(&["check", "-c", file.to_str().unwrap()])
}

#[test]
fn zero_durations_are_an_error_or_have_a_documented_meaning() {
    for yaml in POSITIVE {
        let checked = check(yaml);
        let report =
            String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert!(!checked.status.success(), "{yaml}: {report}");
        assert!(
            ["longer than 0", "at least", "must be"].iter().any(|words| report.contains(words)),
            "{yaml}: {report}"
        );
    }
    for yaml in ZERO {
        let checked = check(yaml);
        assert!(checked.status.success(), "{yaml}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
