//! Request bodies over HTTP/2: the wait for 100, responses before the end of an upload, and the form in which an HTTP/1.1
//! backend gets a body without a length.

use crate::support::frames::{
    ACK, DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
    request, section,
};
use crate::support::secured::Http2;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Wire};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

fn start(routes: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}, {{ name: plain, address: 127.0.0.1:0 }}]
{routes}"
    ))
}

/// Without HPACK's dynamic table, so that each status is readable.
fn connect(gateway: &Gateway) -> Frames {
    Frames::with(gateway.web(), &[(1, 0)])
}

fn header(frames: &mut Frames, stream: u32) -> Frame {
    frames.next_on(HEADERS, stream)
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_then_sends_its_body() {
    let origin = Origin::named("a");
    let gateway = start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for (stream, length) in [(1, Some("5")), (3, None)] {
        let mut frames = connect(&gateway);
        let mut fields = vec![("expect", "100-continue")];
        fields.extend(length.map(|length| ("content-length", length)));
        frames.head(stream, &request("POST", "/a", &fields), false);
        assert_eq!(header(&mut frames, stream).status(), 100);
        frames.frame(DATA, END_STREAM, stream, b"hello");
        assert_eq!(header(&mut frames, stream).status(), 200);
    }
    let seen = origin.seen();
    assert!(seen.iter().all(|seen| seen.body == b"hello" && seen.field("expect").is_none()));
    // A refused request needs no body, and no 100.
    let gateway = start("routes: [{ plugins: [{ kind: respond, status: 401 }] }]");
    let mut frames = connect(&gateway);
    frames.head(1, &request("POST", "/a", &[("expect", "100-continue"), ("content-length", "5")]), false);
    assert_eq!(header(&mut frames, 1).status(), 401);
}

#[test]
fn interim_responses_of_a_backend_are_forwarded() {
    let origin = Origin::fixed(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Next::Close,
    );
    let gateway = start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut frames = connect(&gateway);
    frames.head(1, &request("GET", "/a", &[]), true);
    let statuses = [header(&mut frames, 1).status(), header(&mut frames, 1).status()];
    assert_eq!(statuses, [103, 200]);
}

#[test]
fn interim_responses_beyond_32_kib_are_left_out() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "a".repeat(1000));
    let origin = Origin::fixed(
        format!("{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", hint.repeat(60)),
        Next::Keep,
    );
    let gateway = start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut frames = connect(&gateway);
    // Of each stream: 32 bytes for each response and each field, beside its name and value.
    for stream in [1, 3] {
        frames.head(stream, &request("GET", "/a", &[]), true);
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) {
            statuses.push(header(&mut frames, stream).status());
        }
        assert_eq!(statuses.len(), (32 << 10) / (32 + 32 + 1 + 1000) + 1, "{statuses:?}");
        assert_eq!(frames.next_on(DATA, stream).payload, b"ok");
    }
    // HTTP/1.1 has flow control for all of them.
    let mut wire = Wire::connect(gateway.listener("plain"));
    wire.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let statuses: Vec<_> = (0..=60).map(|_| wire.response().status).collect();
    assert_eq!((statuses.iter().filter(|status| **status == 103).count(), statuses[60]), (60, 200));
}

/// What the server allows.
struct Windows {
    connection: i64,
    initial: i64,
}

/// Sends an upload in pieces of 16 KiB beside the response, within the windows, and returns its status. The stream must not
/// be reset before the upload has ended.
fn upload(frames: &mut Frames, sizes: &mut Windows, stream: u32, path: &str, size: usize) -> u16 {
    frames.head(stream, &request("POST", path, &[]), false);
    let (mut left, mut windows) = (size, [sizes.connection, sizes.initial]);
    let (mut status, mut has_ended) = (0, false);
    loop {
        let piece = left.min(16 << 10);
        if left > 0 && windows.iter().all(|window| *window >= piece as i64) {
            left -= piece;
            windows.iter_mut().for_each(|window| *window -= piece as i64);
            frames.frame(DATA, if left == 0 { END_STREAM } else { 0 }, stream, &vec![b'x'; piece]);
            continue;
        }
        if has_ended && left == 0 {
            sizes.connection = windows[0];
            return status;
        }
        let frame = frames.next().unwrap();
        has_ended |= frame.stream == stream && frame.flags & END_STREAM != 0;
        match frame.kind {
            HEADERS if frame.stream == stream => status = frame.status(),
            WINDOW_UPDATE if [0, stream].contains(&frame.stream) => {
                windows[usize::from(frame.stream > 0)] += i64::from(frame.number(0));
            }
            // SETTINGS_INITIAL_WINDOW_SIZE.
            SETTINGS if frame.flags == 0 => {
                frames.frame(SETTINGS, ACK, 0, b"");
                for setting in frame.payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                    let initial = i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap()));
                    windows[1] += initial - sizes.initial;
                    sizes.initial = initial;
                }
            }
            RST_STREAM | GOAWAY => panic!("{frame:?} after {} of {size} bytes of {path}", size - left),
            _ => {}
        }
    }
}

#[test]
fn an_early_response_is_followed_by_no_reset_while_the_client_sends() {
    let refusing = Origin::scripted("refusing", |_, wire| {
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        Next::Close
    });
    let gateway = start(&format!(
        "routes:
  - {{ path: /own, plugins: [{{ kind: respond, status: 401 }}] }}
  - {{ path: /limit, upstream: ['{refusing}'], plugins: [{{ kind: body_limit, max_size: 1KiB }}] }}
  - {{ path: /backend, upstream: ['{refusing}'] }}
"
    ));
    for (path, status) in [("/own", 401), ("/limit", 413), ("/backend", 413), ("/none", 404)] {
        for size in [10_000, 5_000_000] {
            let (mut frames, mut sizes) =
                (connect(&gateway), Windows { connection: 65_535, initial: 65_535 });
            for stream in [1, 3] {
                assert_eq!(
                    upload(&mut frames, &mut sizes, stream, path, size),
                    status,
                    "{path} {size} {stream}"
                );
            }
        }
    }
}

/// As libcurl does: it ends its upload with the header of a refusal, with fewer bytes than it announced.
#[test]
fn a_client_that_gives_up_its_upload_at_a_refusal_gets_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (goes_on, has_begun) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let gates = (Arc::clone(&goes_on), Arc::clone(&has_begun));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\n").unwrap();
        gates.1.open();
        gates.0.pass_within(LIMIT);
        stream.write_all(b"too large").unwrap();
        // To the end: what is not read would become a reset.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let gateway = start(&format!("routes: [{{ upstream: ['{address}'] }}]"));
    let mut frames = connect(&gateway);
    frames.head(1, &request("POST", "/", &[("content-length", "1000000")]), false);
    frames.frame(DATA, 0, 1, &[0; 1000]);
    assert!(has_begun.is_open_within(LIMIT));
    // The header does not come without its body.
    frames.patience(std::time::Duration::from_millis(200));
    while let Ok(frame) = frames.next() {
        assert_ne!(frame.kind, HEADERS);
    }
    frames.patience(LIMIT);
    goes_on.open();
    assert_eq!(header(&mut frames, 1).status(), 413);
    frames.frame(DATA, END_STREAM, 1, b"");
    assert_eq!(frames.next_on(DATA, 1).payload, b"too large");
}

#[test]
fn a_broken_response_ends_its_stream_at_once_although_the_client_sends() {
    // It does not wait for the end of the body.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 64];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    });
    let gateway = start(&format!("routes: [{{ upstream: ['{address}'] }}]"));
    let mut frames = connect(&gateway);
    frames.patience(std::time::Duration::from_secs(3));
    frames.head(1, &request("POST", "/", &[]), false);
    frames.frame(DATA, 0, 1, b"first");
    frames.next_on(RST_STREAM, 1);
}

#[test]
fn a_shutdown_does_not_wait_for_an_upload_that_has_its_response() {
    let gateway = start("routes: [{ plugins: [{ kind: respond, status: 401 }] }]");
    let mut frames = connect(&gateway);
    frames.head(1, &request("POST", "/", &[]), false);
    assert_eq!(header(&mut frames, 1).status(), 401);
    gateway.signal("TERM");
    let reset = frames.next_on(RST_STREAM, 1);
    assert_eq!(reset.number(0), 0, "NO_ERROR");
    drop(frames);
    assert!(gateway.exit_within(std::time::Duration::from_secs(4)).success());
}

#[test]
fn a_shutdown_lets_an_early_response_end_and_its_upload_not() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1 << 16]).unwrap();
        stream.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        opened.pass_within(LIMIT);
        stream.write_all(b"rest").unwrap();
        // Until the gateway closes the connection.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let gateway = start(&format!("routes: [{{ upstream: ['{address}'] }}]"));
    let mut frames = connect(&gateway);
    frames.head(1, &request("POST", "/", &[]), false);
    frames.frame(DATA, 0, 1, b"first");
    assert_eq!(header(&mut frames, 1).status(), 413);
    assert_eq!(frames.next_on(DATA, 1).payload, b"half");
    gateway.signal("TERM");
    frames.next_of(GOAWAY);
    // The client sends on, and the response goes on too.
    frames.frame(DATA, 0, 1, b"second");
    gate.open();
    let end = frames.next_on(DATA, 1);
    assert_eq!((&end.payload[..], end.flags & END_STREAM), (&b"rest"[..], END_STREAM));
    // The upload is not awaited: it is reset without an error, and the connection ends.
    assert_eq!(frames.next_on(RST_STREAM, 1).number(0), 0, "NO_ERROR");
    let last = frames.rest();
    assert!(last.iter().all(|frame| frame.kind != RST_STREAM), "{last:?}");
    drop(frames);
    assert!(gateway.exit_within(std::time::Duration::from_secs(10)).success());
}

#[test]
fn a_body_that_has_arrived_and_that_a_plugin_changes_has_a_length() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_own_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]
routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: replace, request: {{ from: hello, to: goodbye }} }}] }}]"
    ));
    let mut frames = connect(&gateway);
    let mut stream = 1;
    for (sent, seen) in [("", ""), ("hello", "goodbye"), ("hello, hello", "goodbye, goodbye")] {
        let length = sent.len().to_string();
        for fields in [&[][..], &[("content-length", length.as_str())]] {
            let mut bytes = frame(HEADERS, 4, stream, &section(&request("POST", "/a", fields)));
            bytes.extend(frame(DATA, END_STREAM, stream, sent.as_bytes()));
            frames.send(bytes);
            assert_eq!(header(&mut frames, stream).status(), 200);
            let got = origin.seen().pop().unwrap();
            assert_eq!(got.field("content-length"), Some(seen.len().to_string().as_str()), "{}", got.head);
            assert_eq!((got.field("transfer-encoding"), got.body.as_slice()), (None, seen.as_bytes()));
            stream += 2;
        }
    }
}

#[test]
fn a_body_that_has_arrived_has_a_length_for_http_2_backends_too() {
    let backend = Http2::start(None);
    let gateway = start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{}'], protocol: h2c }} }}\nroutes: [{{ upstream: all }}]",
        backend.address
    ));
    let mut frames = connect(&gateway);
    for (stream, body) in [(1, "hello"), (3, "")] {
        let mut bytes = frame(HEADERS, 4, stream, &section(&request("POST", "/a", &[])));
        bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
        frames.send(bytes);
        assert_eq!(header(&mut frames, stream).status(), 200);
        assert_eq!(backend.last().1["content-length"], body.len().to_string());
    }
    // One that goes on has none, and neither has a request without a body.
    frames.head(5, &request("POST", "/a", &[]), false);
    frames.frame(DATA, 0, 5, b"first");
    assert_eq!(header(&mut frames, 5).status(), 200);
    frames.frame(DATA, END_STREAM, 5, b"second");
    assert!(!backend.last().1.contains_key("content-length"));
    frames.head(7, &request("GET", "/a", &[]), true);
    assert_eq!(header(&mut frames, 7).status(), 200);
    assert!(!backend.last().1.contains_key("content-length"));
}

#[test]
fn a_body_that_has_arrived_has_a_length() {
    let origin = Origin::named("a");
    let gateway = start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut frames = connect(&gateway);
    for (stream, pieces) in
        [(1, vec![""]), (3, vec!["hello"]), (5, vec!["he", "", "llo"]), (7, vec!["x"; 300])]
    {
        let fields = request("POST", "/a", &[]);
        let mut bytes =
            crate::support::frames::frame(HEADERS, 4, stream, &crate::support::frames::section(&fields));
        for (number, piece) in pieces.iter().enumerate() {
            let end = if number + 1 == pieces.len() { END_STREAM } else { 0 };
            bytes.extend(crate::support::frames::frame(DATA, end, stream, piece.as_bytes()));
        }
        frames.send(bytes);
        assert_eq!(header(&mut frames, stream).status(), 200);
        let seen = origin.seen().pop().unwrap();
        let body = pieces.concat();
        assert_eq!(seen.field("content-length"), Some(body.len().to_string().as_str()), "{}", seen.head);
        assert_eq!((seen.field("transfer-encoding"), seen.body.as_slice()), (None, body.as_bytes()));
    }
    // One that goes on has none.
    frames.head(9, &request("POST", "/a", &[]), false);
    frames.frame(DATA, 0, 9, b"first");
    origin.await_seen(4);
    frames.frame(DATA, END_STREAM, 9, b" second");
    assert_eq!(header(&mut frames, 9).status(), 200);
    let seen = origin.seen().pop().unwrap();
    assert_eq!(seen.body, b"first second");
    // And a GET has none either way.
    frames.head(11, &request("GET", "/a", &[]), true);
    assert_eq!(header(&mut frames, 11).status(), 200);
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (None, None));
}
