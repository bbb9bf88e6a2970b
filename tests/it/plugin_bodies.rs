//! Bodies through plugins: in chunks, and buffered for a plugin that reads the whole body.

use crate::support::origin::answer;
use crate::support::raw::ask;
use crate::support::{Gateway, Next, Origin, Wire, eventually};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn one(origin: &Origin, plugins: &str) -> Gateway {
    Gateway::start_own(&format!("routes: [{{ upstream: ['{}'], plugins: [{plugins}] }}]", origin.address()))
}

const SHOUT: &str =
    "{ kind: replace, request: { from: quiet, to: LOUD }, response: { from: quiet, to: LOUD } }";

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_requests_body_passes_plugins_and_has_no_length_unless_it_has_arrived() {
    let origin = Origin::named("a");
    let gateway = one(&origin, SHOUT);
    let mut wire = gateway.wire();
    // More than is awaited before the header is forwarded.
    let rest = "x".repeat(100_000);
    wire.send(post("", &format!("a quiet word{rest}")));
    assert_eq!(wire.response().status, 200);
    // The connection is reused, and a request without a body stays one.
    wire.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().status, 200);
    // Servers that take a body in chunks for an empty one see one that has arrived.
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7\r\na quiet\r\n5\r\n word\r\n0\r\n\r\n";
    for (whole, length) in [
        (post("", "a quiet word"), "11"),
        (chunked.to_owned(), "11"),
        (post("", &"quiet".repeat(3000)), "12000"),
        (post("", "quiet").replace("POST", "DELETE"), "4"),
    ] {
        wire.send(&whole);
        assert_eq!(wire.response().status, 200);
        let seen = origin.seen().pop().unwrap();
        assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (Some(length), None));
        assert_eq!(seen.body.len().to_string(), length);
    }
    let all = origin.seen();
    let [first, second, third, ..] = &all[..] else { panic!("requests") };
    assert_eq!((&first.body[..11], first.body.len()), (&b"a LOUD word"[..], 11 + rest.len()));
    assert_eq!(third.body, b"a LOUD word");
    assert_eq!((first.field("content-length"), first.field("transfer-encoding")), (None, Some("chunked")));
    assert_eq!((second.field("content-length"), second.field("transfer-encoding")), (None, None));
}

#[test]
fn what_a_plugin_holds_back_goes_out_at_the_end() {
    let origin = Origin::named("a");
    let gateway = one(
        &origin,
        "{ kind: replace, hold: true, request: { from: quiet, to: LOUD } },
         { kind: replace, name: second, request: { from: LOUD, to: done } }",
    );
    let mut wire = gateway.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["3\r\nqui\r\n", "3\r\net,\r\n", "0\r\n\r\n"] {
        wire.send(piece);
    }
    assert_eq!(wire.response().status, 200);
    assert_eq!(origin.seen()[0].body, b"done,");
}

#[test]
fn a_response_body_passes_plugins_and_keeps_the_connection() {
    let origin = Origin::fixed(answer(200, "", b"a quiet word"), Next::Keep);
    let gateway = one(&origin, SHOUT);
    let mut wire = gateway.wire();
    for _ in 0..3 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.text().as_str(), response.field("content-length")), ("a LOUD word", None));
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    }
}

#[test]
fn to_http_1_0_a_changed_body_ends_with_its_connection() {
    let origin = Origin::fixed(answer(200, "", b"a quiet word"), Next::Keep);
    let gateway = one(&origin, SHOUT);
    let response = ask(gateway.web(), "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((response.text().as_str(), response.field("transfer-encoding")), ("a LOUD word", None));
    assert_eq!((response.field("content-length"), response.field("connection")), (None, Some("close")));
}

#[test]
fn responses_without_a_body_are_framed_as_such() {
    for (method, status, body) in
        [("HEAD", 200, &b""[..]), ("GET", 204, b""), ("GET", 304, b""), ("GET", 200, b"")]
    {
        let head = if status == 200 && method == "HEAD" {
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n".to_vec()
        } else {
            answer(status, "", body)
        };
        let origin = Origin::fixed(head, Next::Keep);
        let gateway = one(&origin, SHOUT);
        let mut wire = gateway.wire();
        for _ in 0..2 {
            wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = wire.try_response(method).unwrap();
            assert_eq!((response.status, response.text().as_str()), (status, ""), "{}", response.head);
            assert_eq!(response.field("transfer-encoding"), None, "{}", response.head);
        }
    }
}

#[test]
fn an_unchanged_body_keeps_its_length() {
    let origin = Origin::fixed(answer(200, "", b"a quiet word"), Next::Keep);
    let gateway = one(&origin, "{ kind: replace, leave: true, response: { from: quiet, to: LOUD } }");
    let response = gateway.get("/");
    assert_eq!((response.text().as_str(), response.field("content-length")), ("a quiet word", Some("12")));
}

#[test]
fn local_responses_of_gateway_and_plugins_pass_the_same_way() {
    let origin = Origin::named("a");
    let words = "response: { from: chaos, to: order }";
    let gateway = one(
        &origin,
        &format!("{{ kind: replace, {words} }}, {{ kind: chaos, phase: request_headers, act: reply }}"),
    );
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (418, "order"));
    assert_eq!(response.field("content-length"), Some("5"));
    let dead = Origin::named("dead");
    dead.die();
    let gateway = one(&dead, "{ kind: replace, response: { from: connect_refused, to: sorry } }");
    let response = gateway.get("/");
    assert!(response.status == 502 && response.text().contains("sorry"), "{}", response.text());
    assert_eq!(response.field("content-length"), Some(response.body.len().to_string().as_str()));
}

const WHOLE: &str = "{ kind: replace, whole: 8MiB, request: { from: quiet, to: LOUD } }";

#[test]
fn a_whole_body_of_megabytes_is_seen_before_the_header_is_forwarded() {
    let origin = Origin::named("a");
    let gateway = one(&origin, WHOLE);
    let big = format!("quiet {}", "x".repeat(5 << 20));
    let mut wire = gateway.wire();
    let next = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
    // The next request is in the same packets.
    wire.send(post("X-Kept: 1\r\n", &big) + next);
    assert_eq!(wire.response().status, 200);
    assert_eq!(wire.response().status, 200);
    let [first, second] = &origin.seen()[..] else { panic!("two requests") };
    let length = (big.len() - 1).to_string();
    assert!(first.body.starts_with(b"LOUD x") && first.body.len().to_string() == length);
    for field in ["x-body-length", "content-length"] {
        assert_eq!(first.field(field), Some(length.as_str()));
    }
    assert_eq!((first.field("x-kept"), first.field("transfer-encoding")), (Some("1"), None));
    assert_eq!((second.target(), second.field("x-body-length")), ("/behind", Some("0")));
    assert_eq!((second.field("content-length"), second.body.len()), (None, 0));
}

#[test]
fn a_whole_body_may_come_in_chunks_and_passes_the_plugins_around() {
    let origin = Origin::named("a");
    let gateway = one(
        &origin,
        "{ kind: replace, name: before, request: { from: one, to: two } },
         { kind: replace, name: all, whole: 1KiB, request: { from: two, to: three } },
         { kind: replace, name: again, whole: 1KiB, request: { from: three, to: four! } },
         { kind: replace, name: behind, request: { from: four, to: five } }",
    );
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
        wire.send("4\r\n-one\r\n0\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
    let seen = &origin.seen()[1];
    assert_eq!(String::from_utf8_lossy(&seen.body), "five!-five!");
    assert_eq!((seen.field("content-length"), seen.field("x-body-length")), (Some("11"), Some("11")));
}

#[test]
fn a_whole_body_of_a_half_closed_client_gets_a_response_too() {
    let origin = Origin::named("a");
    let gateway = one(&origin, WHOLE);
    let response = ask(gateway.web(), post("Connection: close\r\n", "a quiet word"));
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    assert_eq!(origin.seen()[0].body, b"a LOUD word");
    assert_eq!(response.field("connection"), Some("close"));
}

#[test]
fn a_whole_body_that_is_too_long_is_413() {
    let origin = Origin::named("a");
    let gateway = one(&origin, "{ kind: replace, whole: 10B }");
    let long = "x".repeat(11);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n";
    for request in [post("", &long), chunked.to_owned()] {
        let mut wire = gateway.wire();
        wire.send(request);
        let response = wire.response();
        assert!(response.status == 413 && response.text().contains("body_too_large"), "{}", response.text());
    }
    let mut wire = gateway.wire();
    wire.send(post("", "1234567890"));
    assert_eq!((wire.response().status, origin.count()), (200, 1));
}

#[test]
fn a_client_that_waits_gets_a_100() {
    let origin = Origin::named("a");
    let gateway = one(&origin, WHOLE);
    let mut wire = gateway.wire();
    wire.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(wire.response().status, 100);
    wire.send("quiet");
    assert_eq!(wire.response().status, 200);
    let seen = &origin.seen()[0];
    assert_eq!((seen.body.as_slice(), seen.field("expect")), (&b"LOUD"[..], None));
}

#[test]
fn a_client_that_leaves_in_its_body_affects_no_other_client() {
    let origin = Origin::named("a");
    let gateway = one(&origin, WHOLE);
    for _ in 0..20 {
        let mut wire = gateway.wire();
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf");
        drop(wire);
        let mut broken = gateway.wire();
        broken.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef");
        let response = broken.response();
        assert!(response.status == 400 && broken.ended(), "{}", response.head);
    }
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(origin.count(), 1);
    eventually("nothing is under way", || (gateway.status()["requests"] == 0).then_some(()));
}

/// Two backends of which the first one tried closes without a response, once in total.
fn one_fails() -> (Origin, Origin, std::sync::Arc<AtomicBool>) {
    let failed = std::sync::Arc::new(AtomicBool::new(false));
    let backend = |name: &'static str| {
        let failed = failed.clone();
        Origin::scripted(name, move |_, wire: &mut Wire| {
            if !failed.swap(true, SeqCst) {
                return Next::Close;
            }
            wire.try_send(answer(200, "", name.as_bytes())).map_or(Next::Close, |()| Next::Keep)
        })
    };
    (backend("a"), backend("b"), failed)
}

#[test]
fn another_attempt_sends_what_the_plugins_made_once() {
    for plugin in [
        WHOLE,
        "{ kind: replace, request: { from: quiet, to: quietLOUD } }",
        "{ kind: replace, hold: true, request: { from: quiet, to: quietLOUD } }",
    ] {
        let (a, b, _) = one_fails();
        let gateway = Gateway::start_own(&format!(
            "upstreams: {{ u: {{ endpoints: ['{}', '{}'], retries: 1 }} }}
routes: [{{ upstream: u, plugins: [{plugin}] }}]",
            a.address(),
            b.address()
        ));
        let mut wire = gateway.wire();
        wire.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n<quiet>");
        let response = wire.response();
        assert_eq!(response.status, 200, "{plugin}: {}", response.text());
        let bodies: Vec<_> = a.seen().into_iter().chain(b.seen()).map(|seen| seen.body).collect();
        let wanted = if plugin == WHOLE { &b"<LOUD>"[..] } else { b"<quietLOUD>" };
        assert_eq!(bodies, [wanted, wanted], "{plugin}");
    }
}

#[test]
fn a_body_too_long_to_be_kept_is_sent_once() {
    let (a, b, _) = one_fails();
    let gateway = Gateway::start_own(&format!(
        "upstreams: {{ u: {{ endpoints: ['{}', '{}'], retries: 1 }} }}
routes: [{{ upstream: u, plugins: [{{ kind: replace, request: {{ from: x, to: xxxx }} }}] }}]",
        a.address(),
        b.address()
    ));
    let body = "x".repeat(30 << 10);
    let mut wire = gateway.wire();
    wire.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let response = wire.response();
    assert_eq!(response.status, 502, "{}", response.text());
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn a_route_without_such_plugins_keeps_lengths() {
    let origin = Origin::fixed(answer(200, "", b"a quiet word"), Next::Keep);
    let gateway = one(&origin, "{ kind: replace }");
    let mut wire = gateway.wire();
    wire.send(post("", "a quiet word"));
    assert_eq!(wire.response().field("content-length"), Some("12"));
    assert_eq!(origin.seen()[0].field("content-length"), Some("12"));
}
