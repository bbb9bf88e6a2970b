//! Trailers (RFC 9110 §6.5) between HTTP/1.1 and HTTP/2, in both directions: names and order as received over HTTP/1.1, and
//! none that a trailer must not have.

use crate::support::h2::{self, Client};
use crate::support::raw::lossy;
use crate::support::secured::Http2;
use crate::support::{Gateway, Next, Origin, Wire};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

/// A section in an unusual spelling and order, with fields that are not forwarded.
const SENT: &str =
    "X-sUM: 1\r\nContent-Length: 5\r\nserver-TIMING: a\r\nhost: b\r\nx-Sum: 2\r\nX-Gone: 1\r\n";
const FORWARDED: &str = "X-sUM: 1\r\nserver-TIMING: a\r\nx-Sum: 2\r\n";

fn start(routes: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
{routes}"
    ))
}

/// The field lines of a chunked body after its last chunk.
fn section(wire_body: &[u8]) -> String {
    let text = lossy(wire_body);
    let (_, section) = text.split_once("\r\n0\r\n").unwrap_or_else(|| panic!("no last chunk: {text:?}"));
    section.strip_suffix("\r\n").unwrap().to_owned()
}

/// The header and the bytes of the chunked body of the next response.
fn chunked(wire: &mut Wire) -> (String, Vec<u8>) {
    let head = lossy(&wire.head().unwrap().unwrap());
    (head, wire.chunks().unwrap().0)
}

#[test]
fn trailers_keep_names_and_order_over_http_1_in_both_directions() {
    let origin = Origin::fixed(
        format!(
            "HTTP/1.1 200 OK\r\nConnection: x-gone\r\ntrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{SENT}\r\n"
        ),
        Next::Keep,
    );
    let gateway = start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = Wire::connect(gateway.web());
    for _ in 0..2 {
        wire.send(format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: x-gone\r\ntrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n{SENT}\r\n"
        ));
        let (head, body) = chunked(&mut wire);
        assert!(head.contains("\r\ntrailer: X-Sum\r\n"), "{head}");
        assert_eq!(body, format!("2\r\nok\r\n0\r\n{FORWARDED}\r\n").as_bytes());
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.field("trailer"), Some("X-Sum"));
        assert_eq!((section(&seen.wire_body).as_str(), &*seen.body), (FORWARDED, &b"hi"[..]));
    }
    assert_eq!(origin.connections(), 1, "both connections are kept");
    // A section that is no fields is left out, and so are trailers without chunks.
    for body in [
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-A: 1\r\nno field\r\n\r\n",
        "Content-Length: 2\r\n\r\nhi",
    ] {
        wire.send(format!("POST /a HTTP/1.1\r\nHost: localhost\r\nTrailer: X-A\r\n{body}"));
        chunked(&mut wire);
        let seen = origin.seen().pop().unwrap();
        assert!(!lossy(&seen.wire_body).contains("X-A"), "{:?}", lossy(&seen.wire_body));
        assert_eq!(
            seen.field("trailer").is_some(),
            seen.field("transfer-encoding").is_some(),
            "{}",
            seen.head
        );
    }
    // HTTP/1.0 has no chunks.
    let mut old = Wire::connect(gateway.web());
    old.send("GET /a HTTP/1.0\r\n\r\n");
    let text = lossy(&old.rest());
    assert!(text.ends_with("\r\n\r\nok") && !text.to_lowercase().contains("trailer"), "{text}");
}

#[test]
fn a_client_cannot_send_in_a_trailer_what_the_gateway_or_a_plugin_says() {
    let origin = Origin::named("a");
    let gateway = start(&format!(
        "routes:
  - {{ path: /a, upstream: ['{origin}'] }}
  - {{ path: /set, upstream: ['{origin}'], plugins: [{{ kind: headers, request: {{ set: {{ x-user: alice }} }} }}] }}
  - {{ path: /remove, upstream: ['{origin}'], plugins: [{{ kind: headers, request: {{ remove: [x-user] }} }}] }}
"
    ));
    let mut wire = Wire::connect(gateway.web());
    // Where a plugin acts on the fields of requests, there are no trailers.
    for (path, expected) in
        [("/a", "X-User: admin\r\nx_user: admin\r\nX-Ok: 1\r\n"), ("/set", ""), ("/remove", "")]
    {
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
             X-User: admin\r\nx_user: admin\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=a\r\n\
             X_Real_IP: 10.0.0.1\r\nX-Request-ID: b\r\nVia: c\r\nCookie: d\r\nAuthorization: e\r\nX-Ok: 1\r\n\r\n"
        ));
        assert_eq!(wire.response().status, 200);
        assert_eq!(section(&origin.seen().pop().unwrap().wire_body), expected, "{path}");
    }
}

#[test]
fn another_attempt_sends_the_trailers_again() {
    let closing = Origin::scripted("closing", |_, _| Next::Close);
    let origin = Origin::named("a");
    let gateway = start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{closing}', '{origin}'], retries: 1 }} }}\nroutes: [{{ upstream: all }}]"
    ));
    let mut wire = Wire::connect(gateway.web());
    for _ in 0..2 {
        wire.send("PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-A: 1\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
    let all: Vec<_> = closing.seen().into_iter().chain(origin.seen()).collect();
    assert!(all.len() > 2, "one attempt failed");
    for seen in all {
        assert_eq!(section(&seen.wire_body), "X-A: 1\r\n");
    }
}

#[test]
fn trailers_pass_between_the_versions() {
    let origin = Origin::fixed(
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{SENT}\r\n"),
        Next::Keep,
    );
    let newer = Http2::start(None);
    let gateway = start(&format!(
        "upstreams: {{ newer: {{ endpoints: ['{}'], protocol: h2c }} }}
routes: [{{ path: /grpc, upstream: newer }}, {{ upstream: ['{origin}'] }}]",
        newer.address
    ));
    // HTTP/2 to HTTP/1.1: also a body that has arrived whole, and one that is empty.
    let client = Client::connect(gateway.web());
    for body in ["hello", ""] {
        let request = h2::request("POST", "/a").header("te", "trailers").body(()).unwrap();
        let (answer, mut stream) = client.begin(request, false);
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes()), false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("server-timing", "a"), ("x-sum", "2"), ("via", "b")] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        stream.send_trailers(trailers).unwrap();
        let answer = client.read(answer).unwrap();
        let trailers = answer.trailers.unwrap();
        let all: Vec<_> =
            trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(all, [("x-sum", "1"), ("x-sum", "2"), ("server-timing", "a"), ("x-gone", "1")]);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.body, body.as_bytes());
        let expected = "0\r\nX-Sum: 1\r\nX-Sum: 2\r\nServer-Timing: a\r\n\r\n";
        assert!(seen.wire_body.ends_with(expected.as_bytes()), "{:?}", lossy(&seen.wire_body));
    }
    // HTTP/2 to HTTP/1.1 in a response.
    let mut wire = Wire::connect(gateway.web());
    wire.send("POST /grpc HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nContent-Length: 2\r\n\r\nhi");
    let (_, body) = chunked(&mut wire);
    assert!(body.ends_with(b"0\r\nGrpc-Status: 0\r\nX-Last: word\r\n\r\n"), "{:?}", lossy(&body));
    assert_eq!(newer.last().1["te"], "trailers");
}

#[test]
fn a_body_that_a_plugin_changes_keeps_its_trailers() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n",
        Next::Keep,
    );
    let gateway = Gateway::start_own(&format!(
        "routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: replace, response: {{ from: ok, to: better }} }}] }}]"
    ));
    let mut wire = Wire::connect(gateway.web());
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(chunked(&mut wire).1.ends_with(b"0\r\nX-A: 1\r\n\r\n"));
}

#[test]
fn the_announcement_of_trailers_passes_wherever_they_do() {
    let origin = Origin::named("a");
    let newer = Http2::start(None);
    let gateway = start(&format!(
        "upstreams: {{ newer: {{ endpoints: ['{}'], protocol: h2c }} }}
routes:
  - {{ path: /grpc, upstream: newer }}
  - {{ path: /set, upstream: ['{origin}'], plugins: [{{ kind: headers, request: {{ set: {{ x-user: alice }} }} }}] }}
  - {{ upstream: ['{origin}'] }}",
        newer.address
    ));
    let client = Client::connect(gateway.web());
    // A request of HTTP/2 with trailers: in chunks over HTTP/1.1, and none over HTTP/2 or beside plugins of fields.
    for (path, body) in [("/a", "hello"), ("/a", ""), ("/set", "hello"), ("/grpc/announced", "hello")] {
        let request = h2::request("POST", path).header("trailer", "x-sum").body(()).unwrap();
        let (answer, mut stream) = client.begin(request, false);
        stream.send_data(Bytes::from_static(body.as_bytes()), false).unwrap();
        stream
            .send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]))
            .unwrap();
        let answer = client.read(answer).unwrap();
        assert_eq!(answer.status, 200);
        if path.starts_with("/grpc") {
            assert_eq!(newer.last().1.get("trailer"), None);
            assert_eq!(answer.field("trailer"), Some("x-last"));
            assert_eq!(answer.trailers.unwrap()["x-last"], "word");
            continue;
        }
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.field("trailer").is_some(), path == "/a", "{}", seen.head);
        assert_eq!(lossy(&seen.wire_body).to_lowercase().contains("x-sum: 1"), path == "/a");
    }
    // A response of HTTP/2 to HTTP/1.1, whose body has trailers only in chunks.
    for (path, is_announced) in [("/grpc/announced", true), ("/grpc/counted", false)] {
        let mut wire = Wire::connect(gateway.web());
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"));
        let head = lossy(&wire.head().unwrap().unwrap());
        assert_eq!(head.contains("\r\nTrailer: x-last\r\n"), is_announced, "{head}");
        assert_eq!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), is_announced, "{head}");
    }
}
