//! Backends that violate HTTP: the client gets a response that is right or a connection that visibly ends, and no
//! connection with something unread serves another request.

use crate::support::raw::ask;
use crate::support::secured::{Issuer, Life, quoted};
use crate::support::socket_queue::await_delivered;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Wire};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_10: &str = "GET /get HTTP/1.0\r\nHost: a\r\n\r\n";
const CLOSING: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn to(backend: SocketAddr, route: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
server: {{ threads: 1 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ all: {{ endpoints: ['{backend}'], retries: 0 }} }}
routes: [{{ upstream: all{route} }}]"
    ))
}

/// Reads to the end of the connection; an error unless that is a reset.
fn until_reset(wire: &mut Wire) -> io::Result<()> {
    loop {
        match wire.fill() {
            Ok(0) => return Err(io::Error::other("the connection ends as after a whole response")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn interim_responses_without_end_are_502() {
    let backend = Origin::scripted("hints", |seen, wire| {
        if seen.target() == "/get" {
            let _ = wire.try_send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1_000));
        }
        let _ = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Next::Keep
    });
    let gateway = to(backend.address(), "");
    let mut wire = gateway.wire();
    wire.send(GET);
    let mut interim = 0;
    let response = loop {
        let response = wire.response();
        if response.status != 103 {
            break response;
        }
        interim += 1;
    };
    assert_eq!((response.status, interim), (502, 100), "{}", response.head);
    assert!(response.text().contains("bad_response"), "{}", response.text());
    assert_eq!(ask(gateway.web(), CLOSING).text(), "ok");
    assert_eq!(backend.connections(), 2, "the first connection has something unread");
}

#[test]
fn an_invalid_chunk_before_the_response_is_502() {
    for chunks in ["zz\r\n", "\r\n", "2\r\nokzz", "2\r\nok\r\nzz\r\n"] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let backend = Origin::fixed(format!("{head}{chunks}"), Next::Keep);
        let gateway = to(backend.address(), "");
        for requests in 1..=2 {
            let response = ask(gateway.web(), CLOSING);
            assert_eq!(response.status, 502, "{chunks:?}: {}", response.head);
            assert!(response.text().contains("bad_response"), "{chunks:?}: {}", response.text());
            assert_eq!(backend.connections(), requests, "{chunks:?}: a connection was used again");
        }
    }
}

#[test]
fn an_invalid_chunk_after_the_start_of_the_response_cuts_it() {
    for request in [GET, GET_10] {
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        let backend = Origin::scripted("late", move |_, wire| {
            wire.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").unwrap();
            passed.pass_within(LIMIT);
            let _ = wire.try_send("zz\r\n");
            Next::Keep
        });
        let gateway = to(backend.address(), "");
        let mut wire = gateway.wire();
        wire.send(request);
        let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        if request == GET {
            assert_eq!(wire.chunk().unwrap(), b"ok");
            gate.open();
            assert!(wire.chunks().is_err(), "it must not look whole");
        } else {
            assert_eq!(wire.exactly(2).unwrap(), b"ok");
            gate.open();
            until_reset(&mut wire).unwrap();
        }
    }
}

/// The end of a response to HTTP/1.0 is that of its connection, which must not look the same for a cut one.
#[test]
fn a_cut_response_to_http_1_0_ends_with_a_reset() {
    for (cut, is_cut) in [
        ("Content-Length: 10\r\n\r\n01234", true),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n", false),
        ("\r\n01234", false),
    ] {
        let backend = Origin::fixed(format!("HTTP/1.1 200 OK\r\n{cut}"), Next::Close);
        let gateway = to(backend.address(), "");
        let mut wire = gateway.wire();
        wire.send(GET_10);
        let has_length = cut.starts_with("Content-Length");
        let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        if has_length {
            // Its length shows the cut.
            assert_eq!(wire.rest(), b"01234", "{cut:?}");
        } else if is_cut {
            until_reset(&mut wire).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        } else {
            assert_eq!(wire.rest(), b"01234", "{cut:?}");
        }
    }
}

/// A response that comes before the request answers the first one of its connection, and the next one no other client.
#[test]
fn a_backend_that_responds_first_answers_one_request_of_each_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, responded) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let told = told.clone();
            std::thread::spawn(move || {
                let mut wire = Wire::of(stream);
                let answer = |name: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{name}");
                wire.send(answer("first"));
                while let Ok(Some(_)) = wire.head() {
                    let _ = wire.try_send(answer("later"));
                    wire.await_delivered();
                    told.send(()).unwrap();
                }
            });
        }
    });
    let gateway = to(address, "");
    for _ in 0..3 {
        assert_eq!(ask(gateway.web(), CLOSING).text(), "first");
        responded.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn a_header_that_trickles_ends_with_the_timeout_of_the_route() {
    let backend = Origin::scripted("trickling", move |_, wire| {
        let _ = wire.try_send("HTTP/1.1 200 OK\r\nX-Slow: ");
        // Paced, so that there is always progress, until the gateway closes the connection.
        while wire.try_send("x").is_ok() {
            Gate::default().pass_within(Duration::from_millis(20));
        }
        Next::Close
    });
    let gateway = to(backend.address(), ", timeout: 300ms");
    let response = ask(gateway.web(), CLOSING);
    assert_eq!(response.status, 504, "{}", response.head);
    assert!(response.text().contains("response_timeout"), "{}", response.text());
}

/// A backend with TLS that sends more between two requests.
fn late_over_tls(
    config: ServerConfig,
    gate: Arc<Gate>,
) -> (SocketAddr, Arc<AtomicUsize>, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, sent) = channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, config) = (Arc::clone(&connections), Arc::new(config));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, SeqCst);
            let (config, gate, told) = (Arc::clone(&config), Arc::clone(&gate), told.clone());
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let answer = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{text}");
                stream.write_all(answer("good").as_bytes()).unwrap();
                gate.pass_within(LIMIT);
                // The gateway may have closed the connection already.
                let _ = stream.write_all(answer("evil").as_bytes());
                await_delivered(&stream.sock);
                told.send(()).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            });
        }
    });
    (address, connections, sent)
}

#[test]
fn a_tls_connection_with_unread_bytes_serves_no_other_request() {
    let issuer = Issuer::new();
    let gate = Arc::new(Gate::default());
    let server = issuer.server(&["127.0.0.1"], Life::Now, false);
    let (address, connections, sent) = late_over_tls(server, Arc::clone(&gate));
    let ca = quoted(&issuer.file("ca.pem"));
    let gateway = Gateway::start_whole(&format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ all: {{ endpoints: ['{address}'], tls: {{ ca: {ca} }} }} }}
routes: [{{ upstream: all }}]"
    ));
    for requests in 1..=3 {
        assert_eq!(ask(gateway.web(), CLOSING).text(), "good");
        assert_eq!(connections.load(SeqCst), requests);
        gate.open();
        sent.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn the_log_says_why_a_response_is_not_http() {
    for (response, cause) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "the response is not HTTP"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the chunked body violates its framing",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "the length of the response is ambiguous",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "an unrequested 101"),
    ] {
        let backend = Origin::fixed(response, Next::Close);
        let gateway = to(backend.address(), "");
        assert_eq!(ask(gateway.web(), CLOSING).status, 502, "{response:?}");
        let line = gateway.log().wait(0, &["request failed"]);
        assert!(line.ends_with(&format!("error=\"{cause}\"")), "{response:?}: {line}");
    }
}

/// A request that was read completely leaves its connection usable, whatever became of it.
#[test]
fn a_failed_request_keeps_the_connection_of_its_client() {
    let garbage = Origin::fixed("SSH-2.0-OpenSSH_9.2\r\n\r\n", Next::Close);
    let closing = Origin::scripted("closing", |_, _| Next::Close);
    let refusing = Origin::named("refusing");
    refusing.die();
    for (backend, reason) in
        [(&garbage, "bad_response"), (&closing, "upstream_closed"), (&refusing, "connect_refused")]
    {
        let gateway = to(backend.address(), "");
        let mut wire = gateway.wire();
        for _ in 0..2 {
            wire.send(GET);
            let response = wire.response();
            assert_eq!(
                (response.status, response.field("connection")),
                (502, Some("keep-alive")),
                "{reason}"
            );
            assert!(response.text().contains(reason), "{}", response.text());
        }
    }
    // The rest of a body would be the next request.
    let gateway = to(refusing.address(), "");
    let mut wire = gateway.wire();
    wire.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart");
    let response = wire.response();
    assert_eq!((response.status, response.field("connection")), (502, Some("close")));
}
