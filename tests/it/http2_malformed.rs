//! Malformed HTTP/2 messages (RFC 9113 §8) that a client library refuses to send: each ends its stream with
//! an error or gets a 400, no backend receives it, and the connection stays open.

use crate::support::access_log::AccessLog;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, frame, request,
    section,
};
use crate::support::{Gateway, Origin, eventually};

const PROTOCOL_ERROR: u32 = 1;

fn to(origin: &Origin) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams: {{ one: {{ endpoints: ['{origin}'] }} }}\nroutes: [{{ upstream: one }}]"
    ))
}

/// The frame that ends the stream: a reset, a response, or GOAWAY.
fn end_of(client: &mut Frames, stream: u32) -> Frame {
    loop {
        let frame = client.next().unwrap_or_else(|e| panic!("stream {stream}: {e}"));
        if frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind) || frame.kind == GOAWAY {
            return frame;
        }
    }
}

fn is_refused(frame: &Frame) -> bool {
    match frame.kind {
        RST_STREAM => frame.number(0) == PROTOCOL_ERROR,
        HEADERS => frame.status() == 400,
        _ => false,
    }
}

#[test]
fn values_have_no_blanks_around_them() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    let mut stream = 1;
    for (name, value) in [
        ("x-user", " admin"),
        ("x-user", "admin "),
        ("x-user", "\tadmin"),
        ("x-user", "admin\t"),
        ("x-user", " "),
        ("cookie", "a=1 "),
        ("authorization", " Bearer x"),
        ("content-length", " 0"),
    ] {
        client.head(stream, &request("GET", "/", &[("x-before", "1"), (name, value)]), true);
        let end = end_of(&mut client, stream);
        assert!(is_refused(&end), "{name}: {value:?}: {end:?}");
        stream += 2;
    }
    assert_eq!(a.count(), 0);
    // Inner whitespace is valid, and so is an empty value.
    client.head(stream, &request("GET", "/", &[("x-user", "a b\tc"), ("x-empty", "")]), true);
    assert_eq!(client.next_on(HEADERS, stream).status(), 200);
}

/// h2 makes some of these a connection error.
#[test]
fn pseudo_fields_have_no_blanks_around_them() {
    let a = Origin::named("a");
    let gateway = to(&a);
    for (name, value) in [
        (":authority", " a"),
        (":authority", "a "),
        (":method", "GET "),
        (":scheme", " http"),
        (":path", " /"),
        (":path", "/ "),
    ] {
        let mut fields = request("GET", "/", &[]);
        for field in fields.iter_mut().filter(|field| field.0 == name) {
            field.1 = value;
        }
        let mut client = Frames::connect(gateway.web());
        client.head(1, &fields, true);
        let end = end_of(&mut client, 1);
        assert!(is_refused(&end) || end.kind == GOAWAY, "{name}: {value:?}: {end:?}");
    }
    assert_eq!(a.count(), 0);
}

/// `/#` in Huffman code, after the index of `:path` in the static table.
const HUFFMAN: [u8; 5] = [0x04, 0x83, 0x63, 0xfe, 0xbf];

#[test]
fn a_path_has_no_fragment() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    let mut stream = 1;
    for path in ["/a#b", "/#", "#", "#/a", "/a?b#c", "/a?b#", "*#"] {
        client.head(stream, &request("GET", path, &[]), true);
        let end = end_of(&mut client, stream);
        assert!(is_refused(&end), "{path}: {end:?}");
        stream += 2;
    }
    let others = section(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]);
    let inserted = [&others[..], &[0x44, 4], b"/a#b"].concat();
    for block in [
        [&others[..], &HUFFMAN].concat(),
        inserted,
        // The inserted one.
        [&others[..], &[0x80 | 62]].concat(),
    ] {
        client.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        let end = end_of(&mut client, stream);
        assert!(is_refused(&end), "{block:x?}: {end:?}");
        stream += 2;
    }
    // A WebSocket has a path too.
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/ws#x"),
        ("sec-websocket-version", "13"),
    ];
    client.head(stream, &connect, false);
    let end = end_of(&mut client, stream);
    assert!(is_refused(&end), "{end:?}");
    assert_eq!(a.count(), 0);
    // In other fields it is an octet like any other.
    client.head(stream + 2, &request("GET", "/a", &[("x-path", "/a#b")]), true);
    assert_eq!(client.next_on(HEADERS, stream + 2).status(), 200);
    assert_eq!((a.seen()[0].target(), a.seen()[0].field("x-path")), ("/a", Some("/a#b")));
}

#[test]
fn trailers_with_pseudo_fields_end_their_stream() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    let mut stream = 1;
    let path = section(&[(":path", "/b")]);
    for trailers in [
        path.clone(),
        section(&[("x-sum", "1"), (":status", "200")]),
        section(&[(":authority", "b")]),
        vec![0x82],
        vec![0x04, 1, b'/'],
        // `:path` in Huffman code.
        vec![0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'],
    ] {
        let head = frame(HEADERS, END_HEADERS, stream, &section(&request("POST", "/", &[])));
        let body = frame(DATA, 0, stream, b"body");
        client.send([head, body, frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)].concat());
        let end = end_of(&mut client, stream);
        assert!(end.kind != GOAWAY && is_refused(&end), "{trailers:x?}: {end:?}");
        stream += 2;
    }
    // Padded, and over two frames.
    client.head(stream, &request("POST", "/", &[]), false);
    let padded = [&[2][..], &path, &[0, 0]].concat();
    client.frame(HEADERS, END_HEADERS | END_STREAM | 8, stream, &padded);
    assert!(is_refused(&end_of(&mut client, stream)));
    stream += 2;
    client.head(stream, &request("POST", "/", &[]), false);
    let (first, second) = path.split_at(4);
    client.send(
        [frame(HEADERS, END_STREAM, stream, first), frame(CONTINUATION, END_HEADERS, stream, second)]
            .concat(),
    );
    assert!(is_refused(&end_of(&mut client, stream)));
    assert!(client.lives());
    eventually("the endpoint is free", || (gateway.active("one", a.address()) == Some(0)).then_some(()));
    assert_eq!(gateway.metrics().sum("moongate_upstream_failures_total", &[]), 0.0);
}

#[test]
fn trailers_that_come_in_pieces_are_no_way_round() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("POST", "/", &[]), false);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &section(&[(":path", "/b")]));
    for byte in trailers {
        // The connection may end before the last byte.
        if client.try_send([byte]).is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // Pieces that arrive together end the stream alone.
    loop {
        let frame = client.next().unwrap_or_else(|error| panic!("they are not refused: {error}"));
        match frame.kind {
            RST_STREAM if frame.number(0) == PROTOCOL_ERROR => break,
            GOAWAY if frame.number(4) == PROTOCOL_ERROR => break,
            HEADERS => panic!("{frame:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_request_has_a_path_and_an_authority() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    let get = (":method", "GET");
    let http = (":scheme", "http");
    for (at, fields) in [
        vec![get, http, (":authority", "a")],
        vec![get, http, ("host", "a")],
        vec![get, http, (":authority", ""), (":path", "/")],
        vec![get, http, (":authority", "a"), (":path", "?x")],
        vec![get, http, (":authority", "a"), (":path", "a")],
        vec![get, http, (":authority", "a"), (":path", "//a@b/"), ("host", "b")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("host", "a:81")],
        vec![get, http, (":authority", "a:443"), (":path", "/"), ("host", "a")],
        vec![get, http, (":authority", "b@a"), (":path", "/")],
        vec![get, http, ("host", "b@a"), (":path", "/")],
        vec![get, http, (":authority", "a"), (":path", "http://a/")],
        vec![get, (":authority", "a"), (":path", "/")],
        vec![http, (":authority", "a"), (":path", "/")],
        vec![get, http, (":authority", "a"), (":path", "/"), (":status", "200")],
        vec![get, http, (":authority", "a"), (":path", "/"), (":protocol", "websocket")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("x", "y"), (":scheme", "http")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("keep-alive", "1")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("proxy-connection", "1")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("upgrade", "websocket")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("te", "trailers, deflate")],
        vec![get, http, (":authority", "a"), (":path", "/"), ("te", "trailers"), ("te", "gzip")],
    ]
    .into_iter()
    .enumerate()
    {
        let stream = u32::try_from(at).unwrap() * 2 + 1;
        client.head(stream, &fields, true);
        let end = end_of(&mut client, stream);
        assert!(is_refused(&end), "{fields:?}: {end:?}");
    }
    assert_eq!(a.count(), 0);
    assert!(client.lives());
}

/// RFC 9110 §4.2.3: hosts are case-insensitive, and the scheme's default port may be explicit or omitted.
#[test]
fn host_may_name_the_authority_in_another_spelling() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    for (at, (authority, host)) in
        [("a", "A"), ("a.Example", "A.example"), ("a:80", "a"), ("a", "A:80"), ("a:81", "A:81")]
            .into_iter()
            .enumerate()
    {
        let stream = u32::try_from(at).unwrap() * 2 + 1;
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", "/"),
            ("host", host),
        ];
        client.head(stream, &fields, true);
        assert_eq!(client.next_on(HEADERS, stream).status(), 200, "{authority} {host}");
        assert_eq!(a.seen()[at].field("host"), Some(authority));
    }
}

/// Requests that h2 itself rejects are logged and counted too, and so are incomplete headers, after a
/// disconnect or a timeout.
#[test]
fn what_h2_refuses_is_logged() {
    let a = Origin::named("a");
    let log = AccessLog::new();
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         server: {{ header_timeout: 1s }}\n{}\
         upstreams: {{ one: {{ endpoints: ['{a}'] }} }}\nroutes: [{{ upstream: one }}]",
        log.yaml()
    ));
    let lines = |count| {
        eventually("the lines are written", || Some(log.lines()).filter(|lines| lines.len() == count))
    };
    let mut client = Frames::connect(gateway.web());
    let mut stream = 1;
    let valid = [(":method", "GET"), (":scheme", "http"), (":authority", "a")];
    for (name, value) in
        [(":path", "/a<b"), (":path", "/?a>b"), ("connection", "close"), ("te", "gzip"), (":status", "200")]
    {
        let mut fields = valid.to_vec();
        fields.extend((name != ":path").then_some((":path", "/")));
        fields.push((name, value));
        client.head(stream, &fields, true);
        assert!(is_refused(&end_of(&mut client, stream)), "{name}: {value}");
        stream += 2;
    }
    // Above h2's limit: its own response has no body.
    let large = "x".repeat(60_000);
    client.long_head(stream, &request("GET", "/", &[("x-1", &large), ("x-2", &large), ("x-3", &large)]));
    let answered = client.next_on(HEADERS, stream);
    assert_eq!(answered.status(), 431, "{answered:?}");
    let told_of = lines(6);
    let told: Vec<_> = told_of.iter().map(|line| (line["status"].as_u64(), line["error"].as_str())).collect();
    let bad = (Some(0), Some("bad_request"));
    assert_eq!(told, [bad, bad, bad, bad, bad, (Some(431), Some("head_too_large"))]);
    assert!(told_of.iter().all(|line| line["client"] == "127.0.0.1" && line["protocol"] == "HTTP/2.0"));
    // A malformed body counts once, though h2 finds it in the same read as the header.
    let mut early = Frames::connect(gateway.web());
    let head = frame(HEADERS, END_HEADERS, 1, &section(&request("POST", "/", &[("content-length", "5")])));
    early.send([head, frame(DATA, END_STREAM, 1, b"abc")].concat());
    assert!(is_refused(&end_of(&mut early, 1)));
    assert_eq!(lines(7)[6]["error"], "bad_request");
    // A connection error.
    let mut other = Frames::connect(gateway.web());
    other.head(1, &request("GET", "/", &[("x", "a\nb")]), true);
    other.next_of(GOAWAY);
    assert_eq!(lines(8)[7]["error"], "bad_request");
    // A header that times out.
    let mut slow = Frames::connect(gateway.web());
    slow.frame(HEADERS, 0, 1, &section(&valid));
    let told_of = lines(9);
    assert_eq!((&told_of[8]["status"], &told_of[8]["error"]), (&0.into(), &"header_timeout".into()));
    // A client that leaves in the middle of one.
    let mut gone = Frames::connect(gateway.web());
    gone.frame(HEADERS, 0, 1, &section(&valid));
    drop(gone);
    let told_of = lines(10);
    assert_eq!((&told_of[9]["status"], &told_of[9]["error"]), (&499.into(), &"client_gone".into()));
    // A served request is not counted among them.
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    assert_eq!(lines(11)[10]["status"], 200);
    let metrics = gateway.metrics();
    for (reason, count) in
        [("bad_request", 7.0), ("head_too_large", 1.0), ("header_timeout", 1.0), ("client_gone", 1.0)]
    {
        assert_eq!(
            metrics.sum("moongate_http_requests_failed_total", &[("reason", reason)]),
            count,
            "{reason}"
        );
    }
    assert_eq!(a.count(), 1);
}

#[test]
fn a_malformed_request_is_counted() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[("host", "b")]), true);
    assert!(is_refused(&end_of(&mut client, 1)));
    client.head(3, &request("GET", "/", &[("host", "a"), ("host", "b")]), true);
    assert!(is_refused(&end_of(&mut client, 3)));
    eventually("both are counted", || {
        let reason = &[("reason", "bad_request")];
        (gateway.metrics().sum("moongate_http_requests_failed_total", reason) == 2.0).then_some(())
    });
    assert_eq!(a.count(), 0);
}

/// RFC 9113 §3.4. The end comes without a reset, so that the client reads why.
#[test]
fn a_connection_that_does_not_begin_as_http2_is_told_so() {
    let a = Origin::named("a");
    let log = AccessLog::new();
    let gateway = Gateway::start_whole(&format!(
        "listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\n{}routes: [{{ upstream: ['{a}'] }}]",
        log.yaml()
    ));
    let mut client = Frames::silent(gateway.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50));
    let frames = client.rest();
    assert_eq!(frames.last().map(|frame| (frame.kind, frame.number(4))), Some((GOAWAY, PROTOCOL_ERROR)));
    let line = log.wait("the refusal", |line| line["error"] == "bad_request");
    assert!(line["error_detail"].as_str().unwrap().contains("HTTP/2"), "{line}");
}
