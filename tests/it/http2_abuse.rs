//! HTTP/2 attacks: floods, closed windows, and bytes that are not HTTP/2. Each ends its connection in bounded
//! time, none reaches a backend, and other clients are not affected.

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, request, section,
};
use crate::support::h2::{Client, get};
use crate::support::origin::answer;
use crate::support::{Gateway, Next, Origin, eventually};
use proptest::prelude::*;

fn to(origin: &Origin, server: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ {server} }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\n\
         upstreams: {{ one: {{ endpoints: ['{origin}'] }} }}\nroutes: [{{ upstream: one }}]"
    ))
}

/// Sends these bytes repeatedly until the connection has ended.
fn flood(client: &mut Frames, bytes: &[u8]) {
    let many = bytes.repeat(100);
    for _ in 0..10_000 {
        if client.try_send(&many).is_err() {
            return;
        }
    }
    panic!("a million frames were taken");
}

#[test]
fn floods_end_their_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let priority = [0, 0, 0, 0, 16];
    let floods: [(&str, Vec<u8>); 8] = [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("answers to no PING", frame(PING, 1, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS that change", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &priority)),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("an unknown type", frame(0xbe, 0, 0, &[])),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0; 8])),
    ];
    for (what, bytes) in floods {
        let mut client = Frames::connect(gateway.web());
        flood(&mut client, &bytes);
        eventually(what, || (gateway.metrics().sum("moongate_http2_connections", &[]) == 0.0).then_some(()));
    }
    assert!(gateway.metrics().sum("moongate_http2_connections_closed_total", &[("reason", "flood")]) >= 6.0);
    assert_eq!(Client::connect(gateway.web()).ask(get("/"), &[]).text(), "a");
    assert_eq!(a.count(), 1);
}

#[test]
fn floods_inside_a_request_end_their_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("POST", "/", &[]), false);
    flood(&mut client, &frame(DATA, 0, 1, &[]));
    let mut client = Frames::connect(gateway.web());
    client.frame(HEADERS, 0, 1, &section(&request("GET", "/", &[])));
    flood(&mut client, &frame(CONTINUATION, 0, 1, &[]));
    eventually("the endpoint is free", || (gateway.active("one", a.address()) == Some(0)).then_some(()));
}

#[test]
fn a_client_that_floods_hears_why() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    // Just enough to end it, so that no unread bytes make the kernel reset the connection.
    client.send(frame(PING, 0, 0, &[0; 8]).repeat(600));
    let frames = client.rest();
    let goodbye = frames.iter().rev().find(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(goodbye.number(4), 11, "ENHANCE_YOUR_CALM");
}

#[test]
fn pings_beside_requests_are_no_flood() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    for stream in (1..4_001).step_by(2) {
        client.frame(PING, 0, 0, &[1; 8]);
        client.head(stream, &request("GET", "/", &[]), true);
        assert_eq!(client.next_on(HEADERS, stream).status(), 200);
        client.frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    }
    assert!(client.lives());
}

#[test]
fn requests_that_are_all_cancelled_end_their_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    let head = section(&request("GET", "/", &[]));
    let mut sent = 0;
    for stream in (1..200_000).step_by(2) {
        let pair = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &head),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ];
        if client.try_send(pair.concat()).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 90_000, "{sent} of them were taken");
    client.rest();
    eventually("nothing is under way", || (gateway.status()["requests"] == 0).then_some(()));
    assert!(a.count() <= 600, "{} reached the backend", a.count());
    assert_eq!(gateway.metrics().sum("moongate_upstream_failures_total", &[]), 0.0);
}

#[test]
fn responses_cancelled_before_their_end_are_no_flood() {
    let a = Origin::scripted("watched", |_, wire| {
        // More would follow, until the gateway disconnects.
        drop(wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na").map(|()| wire.fill()));
        Next::Close
    });
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    for stream in (1..1_401).step_by(2) {
        client.head(stream, &request("GET", "/", &[]), true);
        assert_eq!(client.next_on(HEADERS, stream).status(), 200);
        client.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    assert!(client.lives());
}

#[test]
fn malformed_requests_are_counted_over_the_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    for stream in (1..199).step_by(2) {
        // Every second one is valid, which does not compensate for the others.
        let other = [("host", "b")];
        let fields = request("GET", "/", if stream % 4 == 1 { &other } else { &[] });
        client.head(stream, &fields, true);
    }
    let frames = client.rest();
    let refused = frames.iter().filter(|frame| frame.kind == HEADERS && frame.status() == 400).count();
    // 32 at once, and a few more on a slow machine: 50 were sent.
    assert!(refused < 45, "{refused}");
    let counted =
        || gateway.metrics().sum("moongate_http2_connections_closed_total", &[("reason", "malformed")]);
    eventually("it is counted", || (counted() == 1.0).then_some(()));
}

#[test]
fn requests_that_h2_refuses_are_counted_too() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    let head = section(&request("GET", "/", &[("te", "gzip")]));
    for stream in (1..2_001).step_by(2) {
        if client.try_send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).is_err() {
            break;
        }
    }
    let resets = client.rest().iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert!(resets <= 200, "{resets}");
    assert_eq!(a.count(), 0);
}

#[test]
fn more_streams_than_allowed_are_refused_one_by_one() {
    let a = Origin::scripted("mute", |_, wire| {
        // Until the gateway disconnects.
        drop(wire.fill());
        Next::Close
    });
    let gateway = to(&a, "");
    let mut client = Frames::connect(gateway.web());
    for stream in (1..=201).step_by(2) {
        client.head(stream, &request("GET", "/", &[]), true);
    }
    let refused = client.next_of(RST_STREAM);
    assert_eq!((refused.stream, refused.number(0)), (201, 7), "REFUSED_STREAM");
    assert!(client.lives());
}

#[test]
fn a_window_that_stays_shut_ends_the_stream_and_frees_the_backend() {
    let big = vec![b'x'; 1 << 20];
    let a = Origin::fixed(answer(200, "", &big), Next::Keep);
    let gateway = to(&a, "send_timeout: 300ms");
    let mut client = Frames::with(gateway.web(), &[(4, 0)]);
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    client.next_on(RST_STREAM, 1);
    eventually("the endpoint is free", || (gateway.active("one", a.address()) == Some(0)).then_some(()));
    assert!(client.lives());
}

#[test]
fn a_client_that_does_not_read_its_socket_is_left() {
    let big = vec![b'x'; 16 << 20];
    let a = Origin::fixed(answer(200, "", &big), Next::Keep);
    let gateway = to(&a, "send_timeout: 500ms");
    let mut client = Frames::with(gateway.web(), &[(4, i32::MAX as u32)]);
    client.frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes());
    for stream in [1, 3, 5] {
        client.head(stream, &request("GET", "/", &[]), true);
    }
    a.await_seen(3);
    eventually("it is left", || {
        (gateway.metrics().sum("moongate_http2_connections", &[]) == 0.0).then_some(())
    });
    eventually("the endpoint is free", || (gateway.active("one", a.address()) == Some(0)).then_some(()));
}

#[test]
fn a_slow_reader_of_one_stream_holds_up_no_other() {
    let big = vec![b'x'; 1 << 20];
    let a = Origin::scripted("two", move |seen, wire| {
        let body = if seen.target() == "/big" { &big[..] } else { b"small" };
        wire.try_send(answer(200, "", body)).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a, "");
    let mut client = Frames::with(gateway.web(), &[(4, 1_000)]);
    client.head(1, &request("GET", "/big", &[]), true);
    client.next_on(DATA, 1);
    for stream in (3..43).step_by(2) {
        client.head(stream, &request("GET", "/", &[]), true);
        assert_eq!(client.next_on(DATA, stream).payload, b"small");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// For any bytes after a preface, the process continues, and no backend receives a request.
    #[test]
    fn bytes_that_are_no_http2_reach_no_backend(
        connections in proptest::collection::vec(
            proptest::collection::vec((any::<u8>(), any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
            0..24,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let a = Origin::named("a");
        let gateway = to(&a, "header_timeout: 200ms");
        for frames in connections {
            let mut client = Frames::connect(gateway.web());
            for (kind, flags, stream, payload) in frames {
                // A possible request header begins with an invalid byte.
                let payload = if kind % 12 == HEADERS { [&[0x80], &payload[..]].concat() } else { payload };
                if client.try_send(frame(kind % 12, flags, stream, &payload)).is_err() {
                    break;
                }
            }
            let _ = client.try_send(&noise);
        }
        prop_assert_eq!(Client::connect(gateway.web()).ask(get("/"), &[]).text(), "a");
        prop_assert_eq!(a.count(), 1);
        prop_assert_eq!(gateway.log().count(0, "panicked"), 0);
    }
}

#[test]
fn a_preface_that_does_not_come_is_not_waited_for() {
    let a = Origin::named("a");
    let gateway = to(&a, "header_timeout: 300ms");
    for bytes in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = Frames::silent(gateway.web());
        client.send(bytes);
        client.rest();
    }
    let begun = || gateway.metrics().sum("moongate_http2_connections_closed_total", &[]);
    eventually("all three ended", || (begun() == 3.0).then_some(()));
}
