//! Clients that disconnect before their response has ended: the request ends at once, in any phase. And
//! clients that half-close, on a route that finishes such requests.

use crate::support::access_log::AccessLog;
use crate::support::certs::Authority;
use crate::support::secured::Http2;
use crate::support::{Gateway, LIMIT, Next, Origin, Wire, eventually, h2ws, ws};
use socket2::SockRef;
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A backend that sends this much, waits for the end of its connection and reports it.
fn silent(beginning: &'static str) -> (Origin, Receiver<()>) {
    let (told, ends) = channel();
    let told = Mutex::new(told);
    let origin = Origin::scripted("silent", move |_, wire| {
        wire.try_send(beginning).unwrap();
        wire.patience(2 * LIMIT);
        if wire.try_rest().is_ok() {
            told.lock().unwrap().send(()).unwrap();
        }
        Next::Close
    });
    (origin, ends)
}

fn to(origin: &Origin, log: &AccessLog, more: &str) -> Gateway {
    Gateway::start(&format!(
        "{}upstreams: {{ all: {{ endpoints: ['{origin}'] }} }}\n\
         routes: [{{ name: all, upstream: all, timeout: 10m{more} }}]",
        log.yaml()
    ))
}

/// The client resets its connection, as after kill -9 of a peer with unread bytes.
fn reset(wire: Wire) {
    let (stream, _) = wire.into_parts();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const CHUNKS: &str =
    "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

#[test]
fn an_upload_to_a_backend_that_does_not_read_ends_with_its_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = AccessLog::new();
    let gateway = Gateway::start(&format!(
        "{}upstreams: {{ all: {{ endpoints: ['{}'] }} }}\nroutes: [{{ name: all, upstream: all, timeout: 0s }}]",
        log.yaml(),
        listener.local_addr().unwrap()
    ));
    let (mut stream, _) = gateway.wire().into_parts();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let _backend = listener.accept().unwrap();
    // Until every buffer on the way is full.
    while stream.write(&[b'x'; 1 << 16]).is_ok() {}
    // The end of its direction would wait behind bytes that are not read.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    let line = log.of("/up");
    assert_eq!((&line["error"], &line["status"]), (&"client_gone".into(), &499.into()), "{line}");
    eventually("the lease is given back", || {
        (gateway.active("all", listener.local_addr().unwrap()) == Some(0)).then_some(())
    });
}

#[test]
fn a_request_ends_with_its_client_whatever_it_waits_for() {
    for (request, path) in [(GET, "/get"), (POST, "/post"), (CHUNKS, "/chunks")] {
        for beginning in ["", EVENTS, LONG, HINTS] {
            for leave in [drop as fn(Wire), reset] {
                let (origin, ends) = silent(beginning);
                let log = AccessLog::new();
                let gateway = to(&origin, &log, "");
                let mut wire = gateway.wire();
                wire.send(request);
                origin.await_seen(1);
                let begun = !beginning.is_empty();
                if begun {
                    wire.head().unwrap();
                }
                leave(wire);
                ends.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{path} {beginning:?} lives on"));
                let line = log.of(path);
                assert_eq!(line["error"], "client_gone", "{line}");
                let status = if beginning.starts_with("HTTP/1.1 200") { 200 } else { 499 };
                assert_eq!(line["status"], status, "{line}");
                eventually("the lease is given back", || {
                    (gateway.active("all", origin.address()) == Some(0)).then_some(())
                });
                let metrics = gateway.metrics();
                let labels = [("route", "all"), ("status", if status == 200 { "200" } else { "499" })];
                assert_eq!(metrics.sum("moongate_http_requests_total", &labels), 1.0);
                let labels = [("route", "all"), ("reason", "client_gone")];
                assert_eq!(metrics.sum("moongate_http_client_aborts_total", &labels), 1.0);
                assert_eq!(metrics.sum("moongate_upstream_failures_total", &[]), 0.0, "nobody is to blame");
            }
        }
    }
}

#[test]
fn a_pipelined_request_is_no_departure_and_does_not_hide_one() {
    let (origin, ends) = silent("");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "");
    let mut wire = gateway.wire();
    wire.send(GET);
    origin.await_seen(1);
    wire.send(POST.repeat(3));
    // More than is read ahead.
    let (mut stream, _) = wire.into_parts();
    let rest =
        format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    std::io::Write::write_all(&mut stream, rest.as_bytes()).unwrap();
    assert!(ends.recv_timeout(Duration::from_millis(200)).is_err(), "its client is there");
    drop(stream);
    ends.recv_timeout(LIMIT).unwrap();
    assert_eq!(log.of("/get")["error"], "client_gone");
}

#[test]
fn what_is_sent_behind_a_request_that_waits_is_the_next_request() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let origin = Origin::scripted("a", move |seen, wire| {
        if seen.target() == "/get" {
            gone.lock().unwrap().recv_timeout(LIMIT).unwrap();
        }
        let answer = crate::support::origin::answer(200, "", seen.target().as_bytes());
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "");
    let mut wire = gateway.wire();
    wire.send(GET);
    origin.await_seen(1);
    // In pieces that each wake the gateway and together exceed what it reads ahead.
    let large =
        format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n{}", "x".repeat(40_000));
    for piece in [POST, CHUNKS, &large].concat().as_bytes().chunks(7000) {
        wire.send(piece);
    }
    go.send(()).unwrap();
    for path in ["/get", "/post", "/chunks", "/large"] {
        assert_eq!(wire.response().text(), path);
    }
}

/// A backend that responds on demand.
fn patient() -> (Origin, std::sync::mpsc::Sender<()>) {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let origin = Origin::scripted("patient", move |_, wire| {
        if gone.lock().unwrap().recv_timeout(LIMIT).is_err() {
            return Next::Close;
        }
        let answer = crate::support::origin::answer(200, "", b"late");
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    (origin, go)
}

#[test]
fn a_route_that_finishes_responds_to_a_half_closed_client() {
    for request in [GET, POST] {
        let (origin, go) = patient();
        let log = AccessLog::new();
        let gateway = to(&origin, &log, ", on_client_close: finish");
        let mut wire = gateway.wire();
        wire.send(request);
        wire.half_close();
        origin.await_seen(1);
        go.send(()).unwrap();
        assert_eq!(wire.response().text(), "late");
        assert!(wire.ended(), "the connection ends with it");
    }
}

#[test]
fn a_reset_ends_a_request_also_where_requests_are_finished() {
    for half_closed in [false, true] {
        let (origin, ends) = silent(EVENTS);
        let log = AccessLog::new();
        let gateway = to(&origin, &log, ", on_client_close: finish");
        let mut wire = gateway.wire();
        wire.send(GET);
        wire.head().unwrap();
        if half_closed {
            wire.half_close();
            assert!(ends.recv_timeout(Duration::from_millis(200)).is_err(), "it is listening");
        }
        reset(wire);
        ends.recv_timeout(LIMIT).unwrap();
        assert_eq!(log.of("/get")["error"], "client_gone");
    }
}

#[test]
fn the_stream_of_an_http_2_backend_is_cancelled() {
    let backend = Http2::start(None);
    let log = AccessLog::new();
    let gateway = Gateway::start(&format!(
        "{}server: {{ threads: 1 }}\n\
         upstreams: {{ all: {{ endpoints: ['{}'], protocol: h2c }} }}\nroutes: [{{ upstream: all, timeout: 10m }}]",
        log.yaml(),
        backend.address
    ));
    let mut wire = gateway.wire();
    wire.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request", || (!backend.seen.heads.lock().unwrap().is_empty()).then_some(()));
    drop(wire);
    assert_eq!(log.of("/silent")["error"], "client_gone");
    eventually("the lease is given back", || {
        (gateway.active("all", backend.address) == Some(0)).then_some(())
    });
    // The connection stays open.
    assert_eq!(gateway.get("/").text(), "two");
    assert_eq!(backend.seen.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn close_notify_is_the_end_of_a_client_s_direction() {
    let certificates = Authority::new();
    let pair = certificates.issue("server", &["localhost"]);
    for (close, finishes) in [("cancel", false), ("finish", true)] {
        let (origin, ends) = silent(EVENTS);
        let log = AccessLog::new();
        let gateway = Gateway::start_whole(&format!(
            "admin: {{ address: 127.0.0.1:0 }}\n{}\
             listeners: [{{ name: web, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}]\n\
             routes: [{{ upstream: ['{origin}'], on_client_close: {close} }}]",
            log.yaml(),
            pair.cert.display(),
            pair.key.display()
        ));
        let mut client = certificates.client().connect(gateway.web(), "localhost").unwrap();
        client.send(b"GET /get HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        origin.await_seen(1);
        client.notify_close();
        if finishes {
            assert!(ends.recv_timeout(Duration::from_millis(200)).is_err(), "it is listening");
            drop(client);
        }
        if !finishes {
            ends.recv_timeout(LIMIT).unwrap();
            assert_eq!(log.of("/get")["error"], "client_gone");
        }
    }
}

#[test]
fn a_plugin_s_call_ends_with_its_client() {
    let (service, ends) = silent("");
    let origin = Origin::named("a");
    let log = AccessLog::new();
    let auth = format!(", plugins: [{{ kind: forward_auth, url: 'http://{service}/auth', timeout: 60s }}]");
    let gateway = to(&origin, &log, &auth);
    for request in [GET, POST, &ws::handshake("/get", "")] {
        let mut wire = gateway.wire();
        wire.send(request);
        let before = log.lines().len();
        eventually("the service is asked", || (service.count() > before).then_some(()));
        drop(wire);
        ends.recv_timeout(LIMIT).unwrap();
        eventually("its line", || (log.lines().len() > before).then_some(()));
    }
    assert!(log.lines().iter().all(|line| line["error"] == "client_gone" && line["status"] == 499));
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_handshake_ends_with_its_client() {
    let (origin, ends) = silent("");
    let log = AccessLog::new();
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams: {{ all: {{ endpoints: ['{origin}'] }} }}\n\
         routes: [{{ upstream: all, websocket: {{ handshake_timeout: 10m }} }}]",
        log.yaml()
    ));
    let mut wire = gateway.wire();
    wire.send(ws::handshake("/one", ""));
    origin.await_seen(1);
    // Early frames are no disconnect.
    wire.send(ws::masked(1, b"early"));
    assert!(ends.recv_timeout(Duration::from_millis(200)).is_err(), "its client is there");
    drop(wire);
    ends.recv_timeout(LIMIT).unwrap();
    assert_eq!(log.of("/one")["error"], "client_gone");
    assert_eq!(origin.count(), 1, "no other endpoint is asked for a client that left");

    let client = Arc::new(h2ws::Client::plain(gateway.web()));
    let opening = client.begin_connect("/two");
    origin.await_seen(2);
    drop(opening);
    ends.recv_timeout(LIMIT).unwrap();
    assert_eq!(log.of("/two")["error"], "client_gone");
}

#[test]
fn a_response_to_a_handshake_ends_with_its_client() {
    let (origin, ends) = silent("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nwait");
    let log = AccessLog::new();
    let gateway = to(&origin, &log, "");
    let mut wire = gateway.wire();
    wire.send(ws::handshake("/refused", ""));
    wire.head().unwrap();
    drop(wire);
    ends.recv_timeout(LIMIT).unwrap();
    assert_eq!(log.of("/refused")["error"], "client_gone");
}

#[test]
fn no_other_endpoint_is_tried_for_a_client_that_left() {
    // The kernel accepts the connections, without a handshake.
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = [0, 1].map(|at| listeners[at].local_addr().unwrap());
    let log = AccessLog::new();
    let gateway = Gateway::start(&format!(
        "{}upstreams: {{ all: {{ endpoints: ['{one}', '{two}'], tls: {{ verify: false }}, connect_timeout: 1s, retries: 3 }} }}\n\
         routes: [{{ upstream: all }}]",
        log.yaml()
    ));
    let mut wire = gateway.wire();
    wire.send(POST);
    eventually("the first attempt", || {
        (gateway.active("all", one) == Some(1) || gateway.active("all", two) == Some(1)).then_some(())
    });
    drop(wire);
    let line = log.of("/post");
    assert_eq!((&line["error"], &line["attempts"]), (&"client_gone".into(), &1.into()), "{line}");
}
