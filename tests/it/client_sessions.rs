//! A client's session over HTTP/1: every byte arrives, on any connection and in any state of the response.

use crate::support::access_log::AccessLog;
use crate::support::certs::Authority;
use crate::support::origin::answer;
use crate::support::raw::ask;
use crate::support::{Gateway, LIMIT, Next, Origin, eventually};
use crate::tls::listed;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A gateway with a listener `secure`.
fn secured(origin: &Origin, certificates: &Authority, server: &str) -> (Gateway, SocketAddr) {
    let pair = certificates.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         server: {{ threads: 1{server} }}\n\
         listeners:\n\
         - {{ name: web, address: 127.0.0.1:0 }}\n\
         - {{ name: secure, address: 127.0.0.1:0, tls: {{ certificates: [{}] }} }}\n\
         routes: [{{ upstream: ['{origin}'] }}]",
        listed(&pair)
    ));
    let secure = gateway.listener("secure");
    (gateway, secure)
}

/// A request that must not be answered at once.
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_last_bytes_before_a_pause_arrive_over_tls() {
    const STEP: usize = 40 << 10;
    // The backend sends some bytes of a long response, for a client that does not read yet, and pauses. The last
    // ones may be in the kernel's buffers, in those of TLS, or in the gateway.
    let (sent, sizes) = mpsc::channel();
    let steps = AtomicUsize::new(0);
    let origin = Origin::scripted("a", move |_, wire| {
        let steps = steps.fetch_add(1, SeqCst);
        let mut size = 0;
        let _ = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while size < steps * STEP && wire.is_read_within(Duration::from_millis(100)) {
            let _ = wire.try_send(vec![b'x'; STEP]);
            size += STEP;
        }
        let _ = sent.send(size);
        wire.rest();
        Next::Close
    });
    let certificates = Authority::new();
    let (_gateway, secure) = secured(&origin, &certificates, "");
    for _ in 0..80 {
        let mut client = certificates.client().connect(secure, "localhost").unwrap();
        client.send(GET.as_bytes()).unwrap();
        let size = sizes.recv_timeout(LIMIT).unwrap();
        while client.exactly(1).unwrap() != b"\n" || client.exactly(2).unwrap() != b"\r\n" {}
        assert_eq!(client.exactly(size).unwrap().len(), size);
    }
}

#[test]
fn a_client_that_takes_nothing_is_given_up_over_tls_too() {
    let certificates = Authority::new();
    // Some of them leave their last bytes in the buffer of TLS.
    for size in (0..20).map(|number| (1 << 20) + number * (200 << 10)) {
        let origin = Origin::fixed(answer(200, "", &vec![b'x'; size]), Next::Keep);
        let (gateway, secure) = secured(&origin, &certificates, ", send_timeout: 200ms");
        let mut client = certificates.client().connect(secure, "localhost").unwrap();
        client.send(GET.as_bytes()).unwrap();
        eventually("the request has ended", || {
            let ended = gateway.metrics().sum("moongate_http_requests_total", &[]);
            (ended == 1.0).then_some(())
        });
    }
}

#[test]
fn an_empty_chunked_body_has_its_end_at_every_attempt() {
    let requests = AtomicUsize::new(0);
    // It closes the pooled connection instead of a second response.
    let origin = Origin::scripted("a", move |_, wire| {
        if requests.fetch_add(1, SeqCst) == 1 {
            return Next::Close;
        }
        wire.try_send(answer(200, "", b"ok")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
    }
    assert_eq!(origin.count(), 3);
    assert!(origin.seen().iter().all(|seen| seen.body.is_empty()));
}

#[test]
fn an_empty_chunked_body_that_a_plugin_reads_whole_is_a_request_like_any_other() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_own(&format!(
        "routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: replace, whole: 1KiB, request: {{ from: a, to: b }} }}] }}]"
    ));
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
    }
    assert_eq!((origin.count(), origin.connections()), (2, 1));
}

#[test]
fn what_came_of_a_refused_handshake_arrives() {
    let partial = "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart";
    let origin = Origin::fixed(partial, Next::Close);
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = gateway.wire();
    wire.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let received = String::from_utf8(wire.rest()).unwrap();
    assert!(
        received.starts_with("HTTP/1.1 403 Forbidden\r\n") && received.ends_with("\r\n\r\npart"),
        "{received}"
    );
}

#[test]
fn empty_lines_before_a_request_are_skipped_and_cost_nothing() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = gateway.wire();
    let begun = Instant::now();
    for _ in 0..200 {
        wire.send("\r\n".repeat(1000));
    }
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().status, 200);
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn a_cr_alone_before_a_request_is_no_empty_line() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for start in ["\r", "\r\r\n", "\r\n\r"] {
        let response = ask(gateway.web(), format!("{start}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status, 400, "{start:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_log_counts_the_bytes_of_a_body_that_a_plugin_reads_whole_once() {
    let origin = Origin::named("a");
    let log = AccessLog::new();
    let gateway = Gateway::start_own_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}listeners: [{{ name: web, address: 127.0.0.1:0 }}]\n\
         routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: replace, whole: 1KiB, request: {{ from: a, to: bb }} }}] }}]",
        log.yaml()
    ));
    assert_eq!(ask(gateway.web(), "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\naaa").status, 200);
    assert_eq!(log.of("/p")["bytes_received"], 3);
    assert_eq!(origin.seen()[0].body, b"bbbbbb");
}

#[test]
fn a_request_may_have_a_thousand_fields() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_own(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let fields: String = (0..1000).map(|number| format!("X-Field-{number}: {number}\r\n")).collect();
    assert_eq!(ask(gateway.web(), format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).status, 200);
    let seen = &origin.seen()[0];
    assert_eq!((seen.field("x-field-0"), seen.field("x-field-999")), (Some("0"), Some("999")));
}

#[test]
fn an_idle_client_is_closed_after_the_keepalive_timeout() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "server: {{ keepalive_timeout: 300ms }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0 }}]\n\
         routes: [{{ upstream: ['{origin}'] }}]"
    ));
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
    let begun = Instant::now();
    assert!(wire.ended());
    assert!(begun.elapsed() > Duration::from_millis(200));
}

#[test]
fn fields_arrive_in_their_order_and_spelling_in_both_directions() {
    let origin =
        Origin::fixed("HTTP/1.1 200 OK\r\nx-ONE:  1\r\nContent-length: 0\r\nX-two:2\r\n\r\n", Next::Keep);
    let gateway = Gateway::start_own_whole(&format!(
        "server: {{ x_forwarded: keep }}\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\n\
         routes: [{{ upstream: ['{origin}'] }}]"
    ));
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nX-b: 2\r\nhOST: a\r\nX-A:1\r\nX-B:  3\r\n\r\n");
    let response = wire.response();
    assert!(
        response.head.starts_with("HTTP/1.1 200 OK\r\nx-ONE: 1\r\nContent-length: 0\r\nX-two: 2\r\n"),
        "{}",
        response.head
    );
    let head = origin.seen()[0].head.clone();
    assert!(head.starts_with("GET / HTTP/1.1\r\nX-b: 2\r\nhOST: a\r\nX-A: 1\r\nX-B: 3\r\n"), "{head}");
}
