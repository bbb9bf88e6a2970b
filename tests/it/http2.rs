//! HTTP/2 from clients: conversion to HTTP/1 and back, bodies, detection of the version, and the end of
//! connections.

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, frame, request, section,
};
use crate::support::h2::{self, Client, get};
use crate::support::origin::answer;
use crate::support::raw::{ask, lossy};
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Wire, eventually};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gateway whose listener supports both versions.
fn both(server: &str, rest: &str) -> Gateway {
    Gateway::start_whole(&whole(server, rest))
}

fn whole(server: &str, rest: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ {server} }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n{rest}"
    )
}

fn to(origin: &Origin, server: &str) -> Gateway {
    both(
        server,
        &format!(
            "routes: [{{ name: all, upstream: one }}]\nupstreams: {{ one: {{ endpoints: ['{origin}'] }} }}"
        ),
    )
}

/// The lines of an access log, once there are this many.
fn lines(path: &std::path::Path, count: usize) -> Vec<serde_json::Value> {
    eventually("the access log's lines", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn a_request_reaches_the_backend_as_one_of_http1() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = both(
        "",
        &format!(
            "access_log: {{ path: '{}' }}\nroutes: [{{ host: localhost, upstream: ['{a}'] }}]",
            log.display()
        ),
    );
    let client = Client::connect(gateway.web());
    let asked = h2::request("POST", "/a/b?c=%20d&\u{fc}")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-twice", "1")
        .header("x-twice", "2")
        .body(())
        .unwrap();
    let answer = client.ask(asked, &[b"one, ", b"two"]);
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "a"));
    assert_eq!(answer.field("via"), None);
    assert_eq!(answer.field("connection"), None);
    assert!(answer.trailers.is_none());
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "POST /a/b?c=%20d&\u{fc} HTTP/1.1");
    assert_eq!(seen.fields("host"), ["localhost"]);
    assert_eq!(seen.fields("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.fields("x-twice"), ["1", "2"]);
    assert_eq!(seen.fields("via"), [""; 0]);
    assert_eq!(seen.fields("x-forwarded-host"), ["localhost"]);
    assert_eq!((seen.fields("te"), seen.fields("connection")), (vec!["trailers"], vec!["TE"]));
    assert_eq!(seen.body, b"one, two");
    let line = &lines(&log, 1)[0];
    let told = (&line["protocol"], &line["status"], &line["bytes_received"], &line["host"]);
    assert_eq!(told, (&"HTTP/2.0".into(), &200.into(), &8.into(), &"localhost".into()));
}

#[test]
fn many_streams_of_one_connection_get_their_own_responses() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let client = Client::connect(gateway.web());
    // After its first response the client knows the limit of concurrent streams and keeps to it.
    assert_eq!(client.ask(get("/"), &[]).status, 200);
    let begun: Vec<_> = (0..300).map(|n| client.begin(get(&format!("/{n}")), true).0).collect();
    for answer in begun {
        assert_eq!(client.read(answer).unwrap().text(), "a");
    }
    assert_eq!(a.count(), 301);
}

#[test]
fn responses_without_a_body_end_with_their_header() {
    let gone = Origin::fixed("HTTP/1.1 204 No Content\r\n\r\n", Next::Keep);
    let same = Origin::fixed("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", Next::Keep);
    let head = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Next::Keep);
    for (origin, method, status, length) in
        [(gone, "GET", 204, None), (same, "GET", 304, None), (head, "HEAD", 200, Some("12"))]
    {
        let gateway = to(&origin, "");
        let client = Client::connect(gateway.web());
        for _ in 0..2 {
            let answer = client.ask(h2::request(method, "/").body(()).unwrap(), &[]);
            assert_eq!((answer.status.as_u16(), answer.field("content-length")), (status, length));
            assert_eq!(answer.body, b"");
        }
    }
}

#[test]
fn an_interim_response_is_not_the_response() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let origin = Origin::fixed([hints, answer(200, "", b"real")].concat(), Next::Keep);
    let gateway = to(&origin, "");
    assert_eq!(Client::connect(gateway.web()).ask(get("/"), &[]).text(), "real");
}

#[test]
fn a_body_has_one_end_however_it_comes() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let client = Client::connect(gateway.web());
    let cases: [&[&[u8]]; 5] =
        [&[b"whole"], &[b"who", b"le"], &[b"whole", b""], &[b"", b"whole", b"", b""], &[b""]];
    for pieces in cases {
        let asked = h2::request("POST", "/").body(()).unwrap();
        assert_eq!(client.ask(asked, pieces).status, 200, "{pieces:?}");
    }
    for seen in &a.seen()[..4] {
        assert_eq!(seen.body, b"whole");
        // In chunks, unless it had arrived before it was sent.
        match seen.field("content-length") {
            Some(length) => assert_eq!((length, seen.wire_body.as_slice()), ("5", &b"whole"[..])),
            None => {
                assert!(seen.wire_body.ends_with(b"\r\n0\r\n\r\n"), "{:?}", seen.wire_body);
                assert_eq!(seen.wire_body.windows(5).filter(|bytes| *bytes == b"0\r\n\r\n").count(), 1);
            }
        }
    }
    assert_eq!(a.seen()[4].body, b"");
    // The backend's connection was reused after each: a second end would be an invalid next request.
    assert_eq!((a.count(), a.connections()), (5, 1));
}

#[test]
fn a_declared_length_is_kept() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let client = Client::connect(gateway.web());
    let asked = || h2::request("POST", "/").header("content-length", "5").body(()).unwrap();
    assert_eq!(client.ask(asked(), &[b"wh", b"ole", b""]).status, 200);
    assert_eq!((a.seen()[0].field("content-length"), &a.seen()[0].wire_body[..]), (Some("5"), &b"whole"[..]));
}

#[test]
fn a_body_of_megabytes_goes_both_ways() {
    let big = vec![b'x'; 5 << 20];
    let back = big.clone();
    let echo = Origin::scripted("echo", move |seen, wire| {
        assert_eq!(seen.body.len(), back.len());
        wire.try_send(answer(200, "", &back)).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&echo, "");
    let client = Client::connect(gateway.web());
    let answer = client.ask(h2::request("POST", "/").body(()).unwrap(), &[&big]);
    assert_eq!(answer.body.len(), big.len());
}

#[test]
fn trailers_of_a_request_end_its_body() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("POST", "/", &[]), false);
    client.frame(DATA, 0, 1, b"body");
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, &section(&[("x-sum", "1")]));
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    let seen = &a.seen()[0];
    assert_eq!(lossy(&seen.wire_body), "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n");
}

#[test]
fn plugins_see_bodies_in_pieces_and_whole() {
    let a = Origin::named("a");
    let yaml = |plugin: &str| format!("routes: [{{ upstream: ['{a}'], plugins: [{plugin}] }}]");
    let big = [vec![b'x'; 300 << 10], b" quiet".to_vec()].concat();
    for plugin in [
        "{ kind: replace, request: { from: quiet, to: LOUD } }",
        "{ kind: replace, whole: 8MiB, request: { from: quiet, to: LOUD } }",
    ] {
        let gateway = Gateway::start_own_whole(&whole("", &yaml(plugin)));
        let client = Client::connect(gateway.web());
        for pieces in [&[&b"a quiet word"[..]][..], &[b"a ", b"quiet", b" word", b""], &[&big]] {
            a.forget();
            let answer = client.ask(h2::request("POST", "/").body(()).unwrap(), pieces);
            assert_eq!(answer.status, 200, "{plugin}");
            let sent = pieces.concat();
            let body = String::from_utf8_lossy(&a.seen()[0].body).into_owned();
            assert_eq!(body, String::from_utf8_lossy(&sent).replace("quiet", "LOUD"), "{plugin}");
        }
        assert_eq!(client.ask(h2::request("POST", "/").body(()).unwrap(), &[b""]).status, 200);
        assert_eq!(client.ask(get("/"), &[]).status, 200);
    }
}

#[test]
fn a_whole_body_goes_to_the_next_endpoint_too() {
    let dead = Origin::named("dead");
    dead.die();
    let a = Origin::named("a");
    let gateway = Gateway::start_own_whole(&whole(
        "",
        &format!(
            "upstreams: {{ two: {{ retries: 3, endpoints: ['{dead}', '{a}'] }} }}
routes: [{{ upstream: two, plugins: [{{ kind: replace, whole: 8MiB, request: {{ from: quiet, to: LOUD }} }}] }}]"
        ),
    ));
    let client = Client::connect(gateway.web());
    let big = vec![b'x'; 200 << 10];
    for _ in 0..4 {
        assert_eq!(client.ask(h2::request("PUT", "/").body(()).unwrap(), &[&big]).status, 200);
    }
    assert!(a.seen().iter().all(|seen| seen.body == big));
}

#[test]
fn local_responses_are_complete() {
    let a = Origin::named("a");
    let gateway = both("", &format!("routes: [{{ path: /a, upstream: ['{a}'] }}]"));
    let client = Client::connect(gateway.web());
    let answer =
        client.ask(h2::request("GET", "/b").header("accept", "application/json").body(()).unwrap(), &[]);
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("\"error\":\"no_route\""), "{}", answer.text());
    assert!(answer.field("x-request-id").is_some());
    // An unread body delays neither the response nor the connection.
    let (early, _body) = client.begin(h2::request("POST", "/b").body(()).unwrap(), false);
    assert_eq!(client.read(early).unwrap().status, 404);
    assert_eq!(client.ask(get("/a"), &[]).status, 200);
}

#[test]
fn a_header_that_is_too_large_gets_431_and_the_connection_stays_open() {
    let a = Origin::named("a");
    let gateway = to(&a, "max_header_size: 8KiB");
    let client = Client::connect(gateway.web());
    for size in [10 << 10, 30 << 10] {
        let large = h2::request("GET", "/").header("x-large", "x".repeat(size)).body(()).unwrap();
        assert_eq!(client.ask(large, &[]).status, 431, "{size}");
    }
    assert_eq!(client.ask(get("/"), &[]).status, 200);
    assert_eq!(a.count(), 1);
}

#[test]
fn connect_is_refused_with_a_line_of_its_own() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway =
        both("", &format!("access_log: {{ path: '{}' }}\nroutes: [{{ upstream: ['{a}'] }}]", log.display()));
    let mut client = Frames::connect(gateway.web());
    client.head(1, &[(":method", "CONNECT"), (":authority", "a:443")], false);
    client.next_on(HEADERS, 1);
    assert!(client.lives());
    let http1 = ask(gateway.web(), "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!(http1.status, 405);
    assert!(http1.field("allow").is_some() && http1.field("x-request-id").is_some());
    let mut told: Vec<_> = lines(&log, 2)
        .iter()
        .map(|line| (line["protocol"].clone(), line["status"].clone(), line["error"].clone()))
        .collect();
    told.sort_by_key(|line| line.0.to_string());
    let line = |protocol: &str| (protocol.into(), 405.into(), "method_not_allowed".into());
    assert_eq!(told, [line("HTTP/1.1"), line("HTTP/2.0")]);
    assert_eq!(a.count(), 0);
}

#[test]
fn malformed_requests_end_their_stream_and_reach_no_backend() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let path = |path| vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    let refused: Vec<Vec<(&str, &str)>> = vec![
        path("*"),
        path("/../admin"),
        path("/a b"),
        path("/a\r\nX: 1"),
        path("http://b/"),
        path(""),
        request("GET", "/", &[("host", "b")]),
        request("GET", "/", &[("connection", "close")]),
        request("GET", "/", &[("transfer-encoding", "chunked")]),
        request("GET", "/", &[("te", "gzip")]),
        request("GET", "/", &[("Upper", "1")]),
        request("GET", "/", &[("x", "a\r\nb: c")]),
        request("GET", "/", &[("content-length", "5"), ("content-length", "6")]),
        request("GET", "/", &[("content-length", "+0")]),
        request("GET", "/", &[(":path", "/b")]),
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", "/")],
        vec![(":method", "G T"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
    ];
    for fields in refused {
        let mut client = Frames::connect(gateway.web());
        client.head(1, &fields, true);
        let end = loop {
            let frame = client.next().unwrap_or_else(|e| panic!("{fields:?}: {e}"));
            if frame.stream == 1 || frame.kind == GOAWAY {
                break frame;
            }
        };
        let told = matches!(end.kind, RST_STREAM | GOAWAY) || (end.kind == HEADERS && end.status() == 400);
        assert!(told, "{fields:?}: {end:?}");
    }
    assert_eq!(a.count(), 0);
}

#[test]
fn a_body_that_lies_about_its_length_is_no_fault_of_the_backends() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    for (stream, body) in [(1, "four"), (3, "sixsix")] {
        client.head(stream, &request("POST", "/", &[("content-length", "5")]), false);
        client.frame(DATA, END_STREAM, stream, body.as_bytes());
        client.next_on(RST_STREAM, stream);
    }
    idle_without_failures(&gateway, &a);
}

fn idle_without_failures(gateway: &Gateway, a: &Origin) {
    eventually("the endpoint is free", || (gateway.active("one", a.address()) == Some(0)).then_some(()));
    eventually("nothing is under way", || (gateway.status()["requests"] == 0).then_some(()));
    assert_eq!(gateway.metrics().sum("moongate_upstream_failures_total", &[]), 0.0);
}

#[test]
fn a_stream_that_is_reset_ends_its_backends_request() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let a = Origin::scripted("slow", move |_, wire| {
        held.pass_within(LIMIT);
        wire.try_send(answer(200, "", b"late")).map_or(Next::Close, |()| Next::Close)
    });
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[]), true);
    client.head(3, &request("POST", "/", &[("content-length", "3")]), false);
    client.frame(DATA, END_STREAM, 3, b"abc");
    a.await_seen(2);
    for stream in [1, 3] {
        client.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    idle_without_failures(&gateway, &a);
    gate.open();
    assert!(client.lives());
}

#[test]
fn a_short_request_is_not_taken_for_the_beginning_of_a_preface() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    assert_eq!(ask(gateway.web(), "GET / HTTP/1.0\r\n\r\n").text(), "a");
    let mut wire = gateway.wire();
    for piece in ["P", "R", "OPFIND / HT", "TP/1.1\r\nHost: a\r\n\r\n"] {
        wire.send(piece);
        std::thread::yield_now();
    }
    assert_eq!(wire.response().text(), "a");
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.response().text(), "a");
    let mut client = Frames::silent(gateway.web());
    for byte in PREFACE {
        client.send([*byte]);
        std::thread::yield_now();
    }
    client.frame(SETTINGS, 0, 0, &[]);
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
}

#[test]
fn a_client_that_does_not_decide_is_timed_out_as_in_http1() {
    let a = Origin::named("a");
    let gateway = to(&a, "header_timeout: 300ms");
    let begun = Instant::now();
    let mut wire = gateway.wire();
    wire.send("PRI * HTTP");
    assert_eq!(wire.response().status, 408);
    assert!(wire.ended());
    assert!(gateway.wire().ended(), "silence is closed without a word");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // After the preface too: silence within a header, in one frame or between two.
    let whole = section(&request("GET", "/", &[]));
    let one = frame(HEADERS, END_HEADERS | END_STREAM, 1, &whole);
    for bytes in [one[..one.len() - 1].to_vec(), frame(HEADERS, END_STREAM, 1, &whole)] {
        let mut client = Frames::connect(gateway.web());
        client.send(bytes);
        client.rest();
    }
    eventually("all are counted", || {
        (gateway.metrics().sum("moongate_http2_connections", &[]) == 0.0).then_some(())
    });
    assert_eq!(a.count(), 0);
}

#[test]
fn an_upgrade_to_h2c_is_never_honoured() {
    let a = Origin::scripted("plain", |_, wire| {
        wire.try_send(answer(200, "", b"plain")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a, "");
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let mut wire = gateway.wire();
    wire.send(asked);
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, "plain"));
    let seen = &a.seen()[0];
    assert_eq!((seen.field("upgrade"), seen.field("http2-settings")), (None, None));
}

#[test]
fn an_http2_only_listener_does_not_respond_to_http1() {
    let a = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\nroutes: [{{ upstream: ['{a}'] }}]"
    ));
    assert_eq!(Client::connect(gateway.web()).ask(get("/"), &[]).text(), "a");
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!wire.rest().starts_with(b"HTTP/1"));
    assert_eq!(a.count(), 1);
}

#[test]
fn an_idle_connection_gets_goaway() {
    let a = Origin::named("a");
    let gateway = to(&a, "keepalive_timeout: 300ms");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    let goodbye = client.next_of(GOAWAY);
    assert_eq!(goodbye.number(4), 0, "no error");
    // A client that acknowledges the ping gets the last stream ID.
    let ping = client.next_of(PING);
    client.frame(PING, ACK, 0, &ping.payload);
    let last = client.next_of(GOAWAY);
    assert_eq!((last.number(0), last.number(4)), (1, 0));
    client.rest();
    let metrics = || gateway.metrics();
    eventually("it is counted", || {
        (metrics().sum("moongate_http2_connections_closed_total", &[("reason", "idle")]) == 1.0).then_some(())
    });
}

#[test]
fn a_request_under_way_keeps_its_connection() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let a = Origin::scripted("slow", move |_, wire| {
        held.pass_within(LIMIT);
        wire.try_send(answer(200, "", b"late")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a, "keepalive_timeout: 100ms");
    let client = Client::connect(gateway.web());
    let (slow, _) = client.begin(get("/"), true);
    a.await_seen(1);
    // A later connection without requests ends meanwhile.
    Frames::connect(gateway.web()).rest();
    gate.open();
    assert_eq!(client.read(slow).unwrap().text(), "late");
}

#[test]
fn a_process_that_ends_completes_active_requests() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let big = vec![b'x'; 1 << 20];
    let a = Origin::scripted("slow", move |_, wire| {
        held.pass_within(LIMIT);
        wire.try_send(answer(200, "", &big)).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a, "drain_delay: 0s");
    let client = Client::connect(gateway.web());
    let (slow, _) = client.begin(get("/"), true);
    let mut idle = Frames::connect(gateway.web());
    a.await_seen(1);
    gateway.signal("TERM");
    let goodbye = idle.rest();
    assert!(goodbye.iter().any(|frame| frame.kind == GOAWAY), "{goodbye:?}");
    assert!(gateway.ended().is_none());
    gate.open();
    assert_eq!(client.read(slow).unwrap().body.len(), 1 << 20);
    let begun = Instant::now();
    assert!(gateway.exit_within(LIMIT).success());
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody is waited for any more");
}

#[test]
fn a_connection_counts_until_it_ends() {
    let a = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c], max_connections: 1 }}]\n\
         routes: [{{ upstream: ['{a}'] }}]"
    ));
    let first = Client::connect(gateway.web());
    assert_eq!(first.ask(get("/"), &[]).status, 200);
    let mut second = Frames::connect(gateway.web());
    second.patience(Duration::from_millis(300));
    assert!(second.next().is_err(), "it waits in the kernel's queue");
    gateway.log().wait(0, &["WARN", "listener has `max_connections` connections", "listener=web"]);
    drop(first);
    second.patience(LIMIT);
    second.head(1, &request("GET", "/", &[]), true);
    assert_eq!(second.next_on(HEADERS, 1).status(), 200);
}

#[test]
fn a_head_may_come_in_many_frames() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    let whole = section(&request("GET", "/", &[("x", &"y".repeat(3_000))]));
    let pieces: Vec<_> = whole.chunks(1_000).collect();
    client.frame(HEADERS, END_STREAM, 1, pieces[0]);
    for (at, piece) in pieces.iter().enumerate().skip(1) {
        let flags = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        client.frame(CONTINUATION, flags, 1, piece);
    }
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    assert_eq!(a.seen()[0].field("x").map(str::len), Some(3_000));
}

/// HTTP/1 silence, for comparison with HTTP/2.
#[test]
fn a_stalled_upload_ends_after_the_body_timeout() {
    let a = Origin::named("a");
    let gateway = to(&a, "body_timeout: 300ms");
    let mut wire: Wire = gateway.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    wire.rest();
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("POST", "/", &[("content-length", "5")]), false);
    client.frame(DATA, 0, 1, b"ab");
    client.next_on(RST_STREAM, 1);
    idle_without_failures(&gateway, &a);
    assert!(client.lives());
}
