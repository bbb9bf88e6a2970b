//! Reuse of backend connections. One is reused only if both messages on it ended unambiguously, with nothing
//! unread and nothing unsent. In any other case the next client must not get the response to another client's
//! bytes.

use crate::support::raw::ask;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Wire, eventually, h2};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A request that a client hides in a body.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: b\r\n\r\n";

/// A backend with its own view of framing: it reads one header, responds as the test demands, and parses all
/// further bytes on that connection as a request.
struct Naive {
    address: SocketAddr,
    /// The header of each request, with the number of its connection.
    heads: Receiver<(usize, String)>,
    connections: Arc<AtomicUsize>,
}

impl Naive {
    fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, heads) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&connections), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (number, told, answer) = (count.fetch_add(1, SeqCst), told.clone(), Arc::clone(&answer));
                let wire = Wire::of(stream.unwrap());
                std::thread::spawn(move || serve(wire, number, &told, &*answer));
            }
        });
        Self { address, heads, connections }
    }

    fn next(&self) -> (usize, String) {
        self.heads.recv_timeout(LIMIT).unwrap()
    }
}

fn serve(
    mut wire: Wire,
    number: usize,
    told: &Sender<(usize, String)>,
    answer: &dyn Fn(&str) -> Vec<u8>,
) -> Option<()> {
    loop {
        let head = String::from_utf8_lossy(&wire.head().ok()??).into_owned();
        let answer = answer(&head);
        told.send((number, head)).ok()?;
        wire.try_send(answer).ok()?;
    }
}

fn to(backend: &impl std::fmt::Display) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
server: {{ threads: 1 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
routes: [{{ upstream: ['{backend}'] }}]"
    ))
}

fn refusing(status: &'static str) -> Naive {
    Naive::answering(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let status = if path == "/upload" { status } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nX-Path: {path}\r\nContent-Length: 2\r\n\r\nab").into_bytes()
    })
}

/// Asserts that the next requests get their own responses, and that no backend received the hidden one.
fn assert_unpoisoned(gateway: &Gateway, backend: &Naive) {
    for path in ["/one", "/two", "/three"] {
        let response =
            ask(gateway.web(), format!("GET {path} HTTP/1.1\r\nHost: victim\r\nConnection: close\r\n\r\n"));
        assert_eq!((response.status, response.field("x-path")), (200, Some(path)), "{}", response.head);
        let (_, head) = backend.next();
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
    }
}

#[test]
fn what_follows_an_early_response_reaches_no_backend() {
    for status in ["401 Unauthorized", "417 Expectation Failed", "413 Content Too Large", "200 OK"] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let backend = refusing(status);
            let gateway = to(&backend.address);
            let mut wire = gateway.wire();
            let length = HIDDEN.len();
            wire.send(format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: {length}\r\n\r\n"
            ));
            let mut response = wire.response();
            if response.status == 100 {
                assert!(!expect.is_empty());
                response = wire.response();
            }
            assert_eq!(response.status.to_string(), status[..3], "{}", response.head);
            assert_eq!(response.field("connection"), Some("close"), "{}", response.head);
            let (first, head) = backend.next();
            assert!(head.starts_with("POST /upload ") && !head.to_lowercase().contains("expect"), "{head}");
            wire.send(HIDDEN);
            assert_eq!(wire.rest(), b"", "one response to one request");
            assert_unpoisoned(&gateway, &backend);
            // None of the three used the connection of the upload.
            assert!(backend.connections.load(SeqCst) > first + 1, "{status} {expect}");
        }
    }
}

#[test]
fn the_same_holds_for_chunks_and_for_http2() {
    let backend = refusing("401 Unauthorized");
    let gateway = to(&backend.address);
    let mut wire = gateway.wire();
    wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    assert_eq!(wire.response().status, 401);
    backend.next();
    wire.send(format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()));
    assert_eq!(wire.rest(), b"");
    assert_unpoisoned(&gateway, &backend);

    let client = h2::Client::connect(gateway.web());
    for length in [None, Some(HIDDEN.len())] {
        let mut request = h2::request("POST", "/upload").header("expect", "100-continue");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (answer, mut body) = client.begin(request.body(()).unwrap(), false);
        assert_eq!(client.read(answer).unwrap().status, 401);
        backend.next();
        // The stream may be reset already: then nothing can be sent on it.
        let _ = client.write(&mut body, HIDDEN.as_bytes(), true);
        assert_unpoisoned(&gateway, &backend);
    }
    // The connection stays open.
    assert_eq!(client.ask(h2::get("/four"), &[]).status, 200);
}

#[test]
fn an_early_response_arrives_whole_and_the_endpoint_is_free_at_once() {
    // The response takes long, without relation to the upload.
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = to(&listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || -> io::Result<Vec<u8>> {
        let mut wire = Wire::of(listener.accept()?.0);
        wire.patience(LIMIT);
        wire.head()?;
        wire.try_send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\nhalf")?;
        wait.lock().unwrap().recv_timeout(LIMIT).map_err(io::Error::other)?;
        wire.try_send("rest")?;
        // The bytes to the end of the connection: the forwarded part of the upload.
        wire.try_rest()
    });
    let mut wire = gateway.wire();
    wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let head = wire.head().unwrap().unwrap();
    assert!(head.starts_with(b"HTTP/1.1 413 "), "{}", head.escape_ascii());
    assert_eq!(wire.exactly(4).unwrap(), b"half");
    wire.send(vec![b'x'; 100_000]);
    go.send(()).unwrap();
    assert_eq!(wire.exactly(4).unwrap(), b"rest");
    // The backend's connection is closed although the client has not ended its upload.
    assert_eq!(serving.join().unwrap().unwrap(), b"", "nothing of the body was forwarded");
    eventually("the endpoint is free", || {
        (gateway.metrics().sum("moongate_upstream_connections_active", &[]) == 0.0).then_some(())
    });
    wire.send(vec![b'x'; 100_000]);
}

/// Each way in which a connection is not reusable, by the bytes that the backend sends.
#[test]
fn only_a_connection_with_nothing_left_on_it_is_used_again() {
    for (what, method, answer, reused) in [
        ("a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true),
        ("chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true),
        ("no body", "GET", "HTTP/1.1 204 No Content\r\n\r\n", true),
        ("a head alone", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        ("close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", false),
        ("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", false),
        ("more than the length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", false),
        (
            "a second response",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        ("a body to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false),
        ("a body behind 204", "GET", "HTTP/1.1 204 No Content\r\n\r\nab", false),
        ("a body behind 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab", false),
        (
            "bytes after the last chunk",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nab",
            false,
        ),
        // The coding takes precedence (RFC 9112 §6.3).
        (
            "a length and chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            true,
        ),
        (
            "chunks in HTTP/1.0",
            "GET",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            false,
        ),
        (
            "a bad chunk",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            false,
        ),
        (
            "another coding",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            false,
        ),
        (
            "an upgrade nobody asked for",
            "GET",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            false,
        ),
    ] {
        let connections = reuse(answer, method);
        assert_eq!(connections == 1, reused, "{what}: {connections} connections");
    }
}

/// More bytes arrive when the connection is idle already.
#[test]
fn what_a_backend_sends_between_two_requests_reaches_no_client() {
    for surplus in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "!", "\r\n"] {
        let gate = Arc::new(Gate::default());
        let (told, sent) = channel();
        let (told, passed) = (Mutex::new(told), Arc::clone(&gate));
        let backend = Origin::scripted("late", move |_, wire| {
            wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            passed.pass_within(LIMIT);
            wire.try_send(surplus).unwrap();
            wire.await_delivered();
            told.lock().unwrap().send(()).unwrap();
            Next::Keep
        });
        let gateway = to(&backend);
        for _ in 0..3 {
            assert_eq!(
                ask(gateway.web(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").text(),
                "ok"
            );
            gate.open();
            sent.recv_timeout(LIMIT).unwrap();
        }
        assert_eq!(backend.connections(), 3, "{surplus:?}");
    }
}

/// The number of connections that three consecutive requests use.
fn reuse(answer: &'static str, method: &str) -> usize {
    let backend = Naive::answering(move |_| answer.as_bytes().to_vec());
    let gateway = to(&backend.address);
    for _ in 0..3 {
        let mut wire = gateway.wire();
        wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        // Some of them are incomplete.
        let _ = wire.try_response(method);
        let _ = wire.try_rest();
        backend.next();
    }
    backend.connections.load(SeqCst)
}

#[test]
fn a_client_that_leaves_in_mid_upload_leaves_no_connection_behind() {
    let backend = Naive::answering(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/upload" {
            return Vec::new();
        }
        format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nContent-Length: 2\r\n\r\nab").into_bytes()
    });
    let gateway = to(&backend.address);
    let mut wire = gateway.wire();
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", HIDDEN.len() + 1));
    backend.next();
    wire.send(HIDDEN);
    // The backend parses it as a request; its response must be discarded.
    backend.next();
    drop(wire);
    assert_unpoisoned(&gateway, &backend);
}

#[test]
fn chunks_that_arrived_together_with_the_head_are_held_back_too() {
    let backend = refusing("401 Unauthorized");
    let gateway = to(&backend.address);
    let mut wire = gateway.wire();
    // They are forwarded one by one, which takes longer than a busy machine needs to run the backend.
    let few = "1\r\nx\r\n".repeat(8_000);
    let hidden = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{few}{hidden}"));
    assert_eq!(wire.response().status, 401);
    backend.next();
    drop(wire);
    assert_unpoisoned(&gateway, &backend);
}

/// A backend that succeeds reads on: a service that converts what it reads, or an echo.
#[test]
fn an_upload_goes_on_beside_a_response_that_succeeds() {
    const SIZE: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = to(&listener.local_addr().unwrap());
    let backend = std::thread::spawn(move || {
        for stream in listener.incoming().take(2).map_while(Result::ok) {
            let mut wire = Wire::of(stream);
            wire.head().unwrap();
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..SIZE >> 16 {
                let piece = wire.exactly(1 << 16).unwrap();
                wire.send(format!("{:x}\r\n", piece.len()));
                wire.send(&piece);
                wire.send("\r\n");
            }
            wire.send("0\r\n\r\n");
        }
    });
    for _ in 0..2 {
        let mut wire = gateway.wire();
        wire.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
        let mut writer = wire.another();
        let sending = std::thread::spawn(move || io::Write::write_all(&mut writer, &vec![7; SIZE]));
        let response = wire.response();
        assert_eq!((response.status, response.body.len()), (200, SIZE));
        assert!(response.body.iter().all(|byte| *byte == 7));
        sending.join().unwrap().unwrap();
    }
    backend.join().unwrap();
}

/// A backend that succeeds without having read the body, and parses it as a request after its response.
#[test]
fn the_connection_of_an_early_success_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = to(&listener.local_addr().unwrap());
    let (go, wait) = channel::<()>();
    let backend = std::thread::spawn(move || {
        let mut wire = Wire::of(listener.accept().unwrap().0);
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        wait.recv_timeout(LIMIT).unwrap();
        // The hidden request has arrived before the response is complete.
        wire.send("rest");
        let hidden = wire.head().unwrap().is_some();
        let _ = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let mut next = Wire::of(listener.accept().unwrap().0);
        next.head().unwrap();
        next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        hidden
    });
    let mut wire = gateway.wire();
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", HIDDEN.len()));
    wire.head().unwrap();
    assert_eq!(wire.exactly(4).unwrap(), b"half");
    wire.send(HIDDEN);
    wire.await_read();
    go.send(()).unwrap();
    assert_eq!((wire.exactly(4).unwrap(), wire.rest()), (b"rest".to_vec(), Vec::new()));
    let victim = "GET /victim HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(gateway.web(), victim).text(), "good");
    assert!(backend.join().unwrap(), "the body was forwarded, as through any proxy");
}

/// The idle limit of the response applies to both directions, and no limit of the body.
#[test]
fn a_response_beside_a_silent_upload_has_its_own_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start_whole(&format!(
        "server: {{ body_timeout: 200ms }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: ['{address}'], stream_idle_timeout: 1s }}]"
    ));
    let backend = std::thread::spawn(move || {
        let mut wire = Wire::of(listener.accept().unwrap().0);
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
        for _ in 0..4 {
            // Longer than the body's limit in all.
            Gate::default().pass_within(std::time::Duration::from_millis(150));
            wire.send("piece");
        }
        let mut wire = Wire::of(listener.accept().unwrap().0);
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\npiece");
        // It hangs until the gateway ends the connection.
        let _ = wire.try_rest();
    });
    let request = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome";
    let mut wire = gateway.wire();
    wire.send(request);
    assert_eq!(wire.response().text(), "piecepiecepiecepiece");
    let mut wire = gateway.wire();
    wire.send(request);
    wire.head().unwrap();
    assert_eq!(wire.rest(), b"piece");
    gateway.log().wait(0, &["request failed", "reason=stream_idle_timeout"]);
    backend.join().unwrap();
}

#[test]
fn an_early_response_without_a_body_ends_the_request() {
    for (answer, plugin) in [
        ("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 400 Bad\r\nContent-Length: 00\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        // A plugin discards the whole body.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "plugins: [{ kind: luau, source: 'function response_headers(req, res) res:set_status(204) end' }]",
        ),
    ] {
        let backend = Naive::answering(move |_| answer.as_bytes().to_vec());
        let gateway = Gateway::start_whole(&format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
routes: [{{ upstream: ['{}'], {plugin} }}]",
            backend.address
        ));
        let mut wire = gateway.wire();
        wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
        let status = wire.response().status;
        assert!(matches!(status, 204 | 400), "{answer:?}");
        assert_eq!(wire.rest(), b"", "{answer:?}");
        let client = h2::Client::connect(gateway.web());
        let (response, _body) = client.begin(h2::request("POST", "/upload").body(()).unwrap(), false);
        assert_eq!(client.read(response).unwrap().status, status, "{answer:?}");
        eventually("the endpoint is free", || {
            (gateway.metrics().sum("moongate_upstream_connections_active", &[]) == 0.0).then_some(())
        });
    }
}

#[test]
fn a_refused_upload_gets_its_response_before_the_connection_ends() {
    let origin = crate::support::Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: respond, status: 401, body: who }}] }}]"
    ));
    for _ in 0..20 {
        let mut wire = gateway.wire();
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        // More than the gateway has read when it responds. A reset would destroy the response.
        let _ = wire.try_send(vec![b'x'; 200_000]);
        assert_eq!((wire.response().status, wire.rest()), (401, Vec::new()));
    }
}

#[test]
fn a_client_that_leaves_before_its_100_is_no_error_and_no_failure_of_the_endpoint() {
    let backend = refusing("401 Unauthorized");
    let gateway = to(&backend.address);
    for _ in 0..20 {
        let wire = gateway.wire();
        let (stream, _) = {
            let mut wire = wire;
            wire.send(
                "POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            );
            wire.into_parts()
        };
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    assert_eq!(gateway.get("/after").status, 200);
    assert_eq!(gateway.metrics().sum("moongate_upstream_failures_total", &[("reason", "internal")]), 0.0);
    assert_eq!(gateway.log().count(0, "ERROR"), 0, "{}", gateway.log().text());
}

#[test]
fn an_expectation_is_met_anywhere_in_the_field() {
    let backend = refusing("401 Unauthorized");
    let gateway = to(&backend.address);
    for expect in ["Expect: 100-Continue", "Expect: x, 100-continue", "Expect: x\r\nExpect: 100-continue"] {
        let mut wire = gateway.wire();
        wire.send(format!("POST /up HTTP/1.1\r\nHost: a\r\n{expect}\r\nContent-Length: 2\r\n\r\n"));
        assert_eq!(wire.response().status, 100, "{expect}");
        let (_, head) = backend.next();
        assert!(!head.to_lowercase().contains("expect"), "{head}");
    }
}
