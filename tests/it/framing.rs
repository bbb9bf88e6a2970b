//! Message framing (RFC 9112 §6 to §9): the gateway and a backend never disagree about the end of a message,
//! and after any doubt the connection is closed.

use crate::support::raw::ask;
use crate::support::{Gateway, LIMIT, Next, Origin, Wire};
use std::net::TcpListener;

fn to(origin: &Origin) -> Gateway {
    Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"))
}

/// A client that half-closes waits for its responses.
fn finishing(origin: &Origin) -> Gateway {
    Gateway::start(&format!("routes: [{{ upstream: ['{origin}'], on_client_close: finish }}]"))
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Nothing after the header of any of these may be parsed as a request, by any recipient.
#[test]
fn a_body_of_doubtful_length_is_refused_and_hides_no_request() {
    let a = Origin::named("a");
    let gateway = to(&a);
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5;\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "Content-Length : 5\r\n",
    ] {
        let mut wire = gateway.wire();
        let _ = wire.try_send(format!("{POST}{fields}\r\n0\r\n\r\n{HIDDEN}{HIDDEN}"));
        let response = wire.try_response("POST").unwrap_or_else(|e| panic!("{fields:?}: no answer: {e}"));
        assert!([400, 501].contains(&response.status), "{fields:?}: {}", response.head);
        assert!(wire.ended(), "{fields:?}: nothing after a refusal");
        assert_eq!(a.count(), 0, "{fields:?}: {:?}", a.seen());
    }
}

/// Used as one length, or rejected; never forwarded as two. Stock Pingora forwarded a list, with the body as
/// the next request.
#[test]
fn a_repeated_length_is_one_length_or_rejected() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let length = HIDDEN.len();
    for fields in [
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
    ] {
        a.forget();
        let mut wire = gateway.wire();
        let _ = wire.try_send(format!("{POST}{fields}\r\n{HIDDEN}"));
        let response = wire.response();
        gateway.names("/next", 2);
        let seen = a.seen();
        assert!(seen.iter().all(|seen| seen.target() != "/hidden"), "{seen:?}");
        if response.status == 200 {
            assert_eq!(seen[0].fields("content-length"), [length.to_string()]);
            assert_eq!(seen[0].body, HIDDEN.as_bytes());
        } else {
            assert_eq!(response.status, 400);
        }
    }
}

#[test]
fn chunked_beside_a_length_is_refused_or_loses_the_length() {
    let a = Origin::named("a");
    let gateway = to(&a);
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        a.forget();
        let mut wire = gateway.wire();
        let _ = wire.try_send(format!("{POST}{fields}\r\n5\r\nhello\r\n0\r\n\r\n"));
        let response = wire.response();
        if response.status == 200 {
            let seen = &a.seen()[0];
            assert_eq!(seen.body, b"hello");
            assert_eq!(seen.fields("content-length").len() + seen.fields("transfer-encoding").len(), 1);
        } else {
            assert_eq!((response.status, a.count()), (400, 0));
        }
        assert!(wire.ended(), "the boundary is in doubt");
    }
}

#[test]
fn look_alikes_of_framing_fields_do_not_pass() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n";
    assert_eq!(ask(gateway.web(), request).status, 200);
    let seen = &a.seen()[0];
    assert_eq!(
        (seen.field("content_length"), seen.field("transfer_encoding")),
        (None, None),
        "{}",
        seen.head
    );
}

#[test]
fn a_chunked_body_arrives_whole_however_it_is_cut() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let body = "0123456789".repeat(30_000);
    let big = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (chunks, expected) in [
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", "hi"),
        ("0\r\n\r\n", ""),
        ("00A\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
        ("5;name=value\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nX-Trailer: here\r\n\r\n", "hello"),
        (&*big, &*body),
    ] {
        a.forget();
        let mut wire = gateway.wire();
        wire.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n"));
        // The first bytes one by one, so that every boundary falls between two reads.
        let (first, rest) = chunks.split_at(chunks.len().min(40));
        first.bytes().for_each(|byte| wire.send([byte]));
        wire.send(rest);
        assert_eq!(wire.response().status, 200, "{first:?}");
        let seen = a.seen();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].body == expected.as_bytes(), "{first:?}");
        wire.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, 200, "the connection goes on behind {first:?}");
        let next = &a.await_seen(2)[1];
        assert_eq!(next.field("x-trailer"), None, "a trailer is no field of the next request");
    }
}

/// Chunked bodies that end early, do not end, or differ between parsers.
const BROKEN: &[&str] = &[
    "\r\nhello\r\n0\r\n\r\n",
    ";x\r\n\r\n",
    "5;a\0b\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "x\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5 5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\n\r\n",
    "5\r\nhello\r\n\r\n",
    "11111111111111111\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
];

#[test]
fn a_broken_chunk_is_no_end() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5000));
    for chunks in BROKEN.iter().copied().chain([&*long]) {
        // In one packet with its header.
        let mut wire = gateway.wire();
        let _ = wire.try_send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}{HIDDEN}"));
        let response = wire.try_response("POST").unwrap_or_else(|e| panic!("{chunks:?}: no answer: {e}"));
        assert_eq!(response.status, 400, "{chunks:?}");
        assert!(wire.ended(), "{chunks:?}: nothing after a refusal");
        // After the request has reached the backend.
        let mut wire = gateway.wire();
        wire.send(format!("{POST}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(wire.response().status, 100);
        let _ = wire.try_send(format!("4\r\nwell\r\n{chunks}{HIDDEN}"));
        let response = wire.try_response("POST").unwrap_or_else(|e| panic!("{chunks:?}: no answer: {e}"));
        assert_eq!(response.status, 400, "{chunks:?}");
        assert!(wire.ended(), "{chunks:?}: nothing after a refusal");
        assert_eq!(a.count(), 0, "{chunks:?}: a body that never ended: {:?}", a.seen());
    }
    // Endless trailers are rejected too; the client may still be sending when the connection closes.
    let mut wire = gateway.wire();
    let trailers = "X: 0123456789\r\n".repeat(6000);
    let _ = wire.try_send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n"));
    assert!(wire.try_response("POST").map_or(true, |response| response.status == 400));
    assert_eq!(a.count(), 0);
    // An incomplete body is not complete either.
    let mut wire = gateway.wire();
    wire.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    wire.half_close();
    wire.rest();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(a.count(), 1);
}

/// Pipelined bytes are validated like any other request.
#[test]
fn a_broken_request_behind_another_is_refused() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let broken = BROKEN.iter().map(|chunks| format!("{chunked}{chunks}"));
    let odd = ["GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n"];
    for second in broken.chain(odd.map(str::to_owned)) {
        for first in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            format!("{POST}Content-Length: 4\r\n\r\nbody"),
            format!("{chunked}4\r\nbody\r\n0\r\n\r\n"),
        ] {
            a.forget();
            let mut wire = gateway.wire();
            let _ = wire.try_send(format!("{first}{second}{HIDDEN}"));
            assert_eq!(wire.response().status, 200, "{first:?}");
            let response = wire.try_response("POST").unwrap_or_else(|e| panic!("{second:?}: no answer: {e}"));
            assert_eq!(response.status, 400, "{second:?} behind {first:?}");
            assert!(wire.ended(), "{second:?}: nothing after a refusal");
            assert_eq!(a.count(), 1, "{second:?}: {:?}", a.seen());
        }
    }
}

fn pipeline(end: impl FnOnce(&Wire)) {
    let a = Origin::scripted("a", |seen, wire| {
        let body = seen.target().to_owned();
        let answer = crate::support::origin::answer(200, "", body.as_bytes());
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = finishing(&a);
    let requests: String = (0..20)
        .map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
            _ => format!(
                "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            ),
        })
        .collect();
    let mut wire = gateway.wire();
    wire.send(&requests);
    end(&wire);
    for n in 0..20 {
        let response = wire.try_response("GET").unwrap_or_else(|e| panic!("answer {n}: {e}"));
        assert_eq!((response.status, response.text()), (200, format!("/{n}")));
    }
}

#[test]
fn pipelined_requests_all_get_responses_in_order() {
    pipeline(|_| {});
}

#[test]
fn pipelined_requests_get_responses_after_a_half_close() {
    pipeline(Wire::half_close);
}

#[test]
fn a_request_gets_its_response_after_a_half_close() {
    let a = Origin::named("a");
    let gateway = finishing(&a);
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.half_close();
    assert_eq!(wire.response().text(), "a");
}

#[test]
fn expect_gets_exactly_one_100() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut wire = gateway.wire();
    wire.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
    assert_eq!(wire.response().status, 100);
    wire.send("body");
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, "a"), "{}", response.head);
    assert_eq!(a.seen()[0].body, b"body");

    // A client that does not wait gets its response too, and HTTP/1.0 gets no interim one.
    let mut wire = gateway.wire();
    wire.send("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(wire.response().status, 200);
}

/// A backend may respond while it reads, and the client may wait for that before it continues.
#[test]
fn a_response_that_begins_before_its_request_has_ended_is_forwarded_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = std::thread::spawn(move || {
        let mut wire = Wire::of(listener.accept().unwrap().0);
        wire.patience(LIMIT);
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel");
        wire
    });
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{address}'] }}]"));
    let mut wire = gateway.wire();
    wire.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    let head = wire.head().unwrap().unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
    assert_eq!(wire.exactly(3).unwrap(), b"hel");
    let mut backend = backend.join().unwrap();
    wire.send("0\r\n\r\n");
    backend.send("lo!");
    assert_eq!(wire.exactly(3).unwrap(), b"lo!");
}

#[test]
fn responses_without_a_body_have_none() {
    for (answer, method, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "HEAD", 200),
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", 204),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", "GET", 304),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "GET", 204),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", 204),
    ] {
        let a = Origin::fixed(answer, Next::Close);
        let gateway = to(&a);
        let mut wire = gateway.wire();
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        for _ in 0..2 {
            wire.send(&request);
            let response = wire.try_response(method).unwrap();
            assert_eq!(response.status, status, "{answer:?}");
            if status == 204 {
                assert_eq!(response.field("content-length"), None, "{}", response.head);
                assert_eq!(response.field("transfer-encoding"), None, "{}", response.head);
            }
        }
    }
}

#[test]
fn an_error_of_the_gateway_to_head_has_no_body() {
    let dead = Origin::named("dead");
    dead.die();
    let gateway = to(&dead);
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let Ok(response) = wire.try_response("HEAD") else { return };
        assert_eq!(response.status, 502);
        if response.field("connection") == Some("close") {
            assert!(wire.ended(), "a body behind a HEAD");
            return;
        }
    }
}

#[test]
fn a_response_of_ambiguous_length_is_502() {
    let mut wrong = Vec::new();
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: two\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
    ] {
        let a = Origin::fixed(format!("HTTP/1.1 200 OK\r\n{fields}\r\nok"), Next::Close);
        let gateway = to(&a);
        let mut wire = gateway.wire();
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let status = wire.try_response("GET").map_or(0, |response| response.status);
        if status != 502 {
            wrong.push((fields, status));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn a_repeated_length_in_a_response_is_one_length_or_502() {
    for fields in ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n"] {
        let a = Origin::fixed(format!("HTTP/1.1 200 OK\r\n{fields}\r\nok"), Next::Close);
        let gateway = to(&a);
        let response = gateway.get("/");
        if response.status != 502 {
            assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{fields:?}");
            assert_eq!(
                response.head.to_lowercase().matches("content-length").count(),
                1,
                "{}",
                response.head
            );
            assert!(!response.head.contains("2,"), "{}", response.head);
        }
    }
}

#[test]
fn surplus_bytes_of_a_backend_reach_no_client() {
    let a = Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Next::Keep,
    );
    let gateway = to(&a);
    for name in gateway.names("/", 10) {
        assert_eq!(name, "ok");
    }
}

#[test]
fn bodies_of_every_length_pass_both_ways() {
    let a = Origin::scripted("a", |seen, wire| {
        let answer = crate::support::origin::answer(200, "", &seen.body);
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a);
    let mut wire: Wire = gateway.wire();
    for length in [0, 1, 1000, 65_535, 65_536, 1 << 20] {
        let body: Vec<u8> = (0..length).map(|n: usize| (n % 250) as u8).collect();
        wire.send([format!("{POST}Content-Length: {length}\r\n\r\n").as_bytes(), &body].concat());
        assert!(wire.response().body == body, "{length} bytes");
    }
}

#[test]
fn connections_to_a_backend_are_kept_and_shared() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("server: {{ threads: 1 }}\nroutes: [{{ upstream: ['{a}'] }}]"));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(a.connections(), 1, "for 20 clients, one after the other");
}
