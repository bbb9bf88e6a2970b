//! Responses: framings, fields, splits, and what is not a valid response.

use super::{BackendStep, ClientStep, Corpus, after_body, ask, reply, request, send, with_length};

const ROUTES: [&str; 2] = ["plain", "shout"];

/// The connection after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Open,
    Close,
    Reset,
}
use Then::{Close, Open, Reset};

/// Responses to GET, to HEAD (the same without a body), to HTTP/1.0 and to HTTP/2.
const VALID: [(&str, &str, &str, Then); 35] = [
    ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "quiet", Open),
    ("length and close", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", "quiet", Close),
    (
        "length, announced close",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
        "quiet",
        Open,
    ),
    ("length of zero", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", Open),
    ("repeated length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", "quiet", Open),
    ("listed length", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "quiet", Open),
    ("length with leading zeros", "HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\n", "hello", Open),
    (
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nquiet\r\n5\r\n word\r\n0\r\n\r\n",
        Open,
    ),
    ("no chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", Open),
    (
        "coding in capitals",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n",
        "05\r\nhello\r\n00\r\n\r\n",
        Open,
    ),
    (
        "length and chunks",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Open,
    ),
    (
        "extensions and trailers",
        "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c\r\nX-T: 1\r\n\r\n",
        Open,
    ),
    (
        "chunks and close",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Close,
    ),
    ("until close", "HTTP/1.1 200 OK\r\n\r\n", "a quiet answer", Close),
    ("nothing until close", "HTTP/1.1 200 OK\r\n\r\n", "", Close),
    ("until a reset", "HTTP/1.1 200 OK\r\n\r\n", "", Reset),
    ("HTTP/1.0 until close", "HTTP/1.0 200 OK\r\n\r\n", "a quiet answer", Close),
    ("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "hello", Open),
    (
        "HTTP/1.0 with keep-alive",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
        "hello",
        Open,
    ),
    (
        "HTTP/1.0 with chunks",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Open,
    ),
    ("204", "HTTP/1.1 204 No Content\r\n\r\n", "", Open),
    (
        "204 with framing",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "",
        Open,
    ),
    ("304", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", "", Open),
    ("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", Open),
    ("205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "", Open),
    ("odd reason", "HTTP/1.1 299 All's  Well! \u{e9}\r\nContent-Length: 2\r\n\r\n", "ok", Open),
    ("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n", "ok", Open),
    ("empty reason", "HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\n", "no", Open),
    ("odd status", "HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\n", "ok", Open),
    (
        "odd spelling",
        "HTTP/1.1 200 OK\r\nx-LOWER: 1\r\nB: 2\r\nSET-COOKIE: a\r\nset-cookie: b\r\ncontent-LENGTH: 2\r\n\r\n",
        "ok",
        Open,
    ),
    ("folded field", "HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\n\tc\r\nContent-Length: 2\r\n\r\n", "ok", Open),
    (
        "blanks",
        "HTTP/1.1 200 OK\r\nX-Blank : a\r\nX-Empty:\r\nX-Wide:   a b  \r\nContent-Length: 2\r\n\r\n",
        "ok",
        Open,
    ),
    ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\n", "ok", Open),
    ("empty lines before", "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok", Open),
    (
        "hop-by-hop fields",
        "HTTP/1.1 200 OK\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nVia: 1.1 b\r\nServer: s\r\nDate: x\r\nContent-Length: 2\r\n\r\n",
        "ok",
        Open,
    ),
];

/// Interim responses before a final one.
const INTERIM: [(&str, &str, usize); 5] = [
    ("100", "HTTP/1.1 100 Continue\r\n\r\n", 1),
    ("103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n", 1),
    ("103 with framing", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", 1),
    ("102 and 199", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 Odd\r\nX-A: 1\r\n\r\n", 2),
    ("three of 103", "HTTP/1.1 103 A\r\n\r\nHTTP/1.1 103 B\r\n\r\nHTTP/1.1 103 C\r\n\r\n", 3),
];

/// Not valid, or not complete.
const INVALID: [(&str, &str, Then); 41] = [
    ("garbage", "this is not HTTP\r\n\r\n", Open),
    ("binary garbage", "\0\u{1}\u{2}\r\n\r\n", Open),
    ("another protocol", "SSH-2.0-OpenSSH\r\n", Open),
    ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("status 099", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", Open),
    ("field without a colon", "HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\nok", Open),
    ("field without a name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok", Open),
    ("name with a blank", "HTTP/1.1 200 OK\r\nX A: a\r\nContent-Length: 2\r\n\r\nok", Open),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok", Open),
    ("CR in a value", "HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nok", Open),
    ("folding before a field", "HTTP/1.1 200 OK\r\n X-A: a\r\nContent-Length: 2\r\n\r\nok", Open),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", Open),
    ("a sign before a length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Open),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", Open),
    ("a huge length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", Open),
    ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Open),
    (
        "two codings",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Open,
    ),
    ("101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", Open),
    ("interim response that is none", "HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n", Open),
    ("end at once", "", Close),
    ("reset at once", "", Reset),
    ("end in the status line", "HTTP/1.1 20", Close),
    ("end in the header", "HTTP/1.1 200 OK\r\nContent-Le", Close),
    ("reset in the header", "HTTP/1.1 200 OK\r\nContent-Le", Reset),
    ("end after an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", Close),
    ("end in the body", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart", Close),
    ("end before the body", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", Close),
    ("end in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Close),
    ("end between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Close),
    ("end before chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Close),
    (
        "end in the trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1",
        Close,
    ),
    ("empty chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", Open),
    (
        "invalid chunk: no number",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n",
        Open,
    ),
    (
        "invalid chunk: negative size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        Open,
    ),
    (
        "invalid chunk: huge size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        Open,
    ),
    (
        "invalid chunk: longer than its size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
        Open,
    ),
    (
        "invalid chunk: the second one",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n0\r\n\r\n",
        Open,
    ),
];

/// After a complete response.
const SURPLUS: [(&str, &str, &str); 6] = [
    (
        "another response",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
    ),
    ("a byte", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "!"),
    ("a line end", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "\r\n"),
    ("a byte after chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "!"),
    ("a body after 204", "HTTP/1.1 204 No Content\r\n\r\n", "body"),
    ("a body after 304", "HTTP/1.1 304 Not Modified\r\n\r\n", "body"),
];

/// The responses in two reads of the gateway.
pub(super) fn add_splits(corpus: &mut Corpus) {
    for (_, head, body, then) in
        VALID.iter().filter(|row| ["length", "until close", "folded field"].contains(&row.0))
    {
        splits(corpus, &format!("HTTP/1.1 103 A\r\nB: c\r\n\r\n{head}{body}"), *then);
    }
    splits(
        corpus,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
        Open,
    );
}

pub(super) fn add(corpus: &mut Corpus) {
    for route in ROUTES {
        for (name, head, body, then) in VALID {
            let sent = |body: &str| script(&format!("{head}{body}"), then);
            response(corpus, route, name, sent(body));
            corpus.http1(route, format!("HEAD: {name}"), ask("HEAD", request("HEAD", "", "")), [sent("")]);
            let old = "GET /NNNN HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
            corpus.http1(route, format!("to HTTP/1.0: {name}"), ask("GET", old), [sent(body)]);
        }
        for (name, text, then) in INVALID {
            response(corpus, route, name, script(text, then));
        }
        for (name, text, surplus) in SURPLUS {
            // In one read with the response, and after it.
            response(corpus, route, &format!("{name} with it"), after_body(format!("{text}{surplus}")));
        }
        interim(corpus, route);
        limits(corpus, route);
    }
    for (name, text, surplus) in SURPLUS {
        later_surplus(corpus, name, text, surplus);
    }
    unasked(corpus);
}

fn script(text: &str, then: Then) -> Vec<BackendStep> {
    let mut steps = after_body(text);
    match then {
        Open => {}
        Close => steps.push(BackendStep::Close),
        Reset => steps.push(BackendStep::Reset),
    }
    steps
}

/// A GET over both versions, and a POST with a body.
fn response(corpus: &mut Corpus, route: &'static str, name: &str, backend: Vec<BackendStep>) {
    let read = ClientStep::Response("GET");
    let final_too = |steps: &[ClientStep]| {
        // An interim response precedes the final one.
        let count = if name.contains("interim") { 2 } else { 1 };
        [steps, &vec![read.clone(); count]].concat()
    };
    corpus.http1(route, name, final_too(&[send(request("GET", "", ""))]), [backend.clone()]);
    corpus.http1(
        route,
        format!("POST: {name}"),
        final_too(&[send(with_length("POST", "hello"))]),
        [backend.clone()],
    );
    corpus.http2(route, name, ("GET", &[]), [ClientStep::End, read.clone()], [backend]);
}

fn interim(corpus: &mut Corpus, route: &'static str) {
    for (name, interim, count) in INTERIM {
        let backend = after_body(format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        let steps =
            [vec![send(request("GET", "", ""))], vec![ClientStep::Response("GET"); count + 1]].concat();
        corpus.http1(route, name, steps, [backend.clone()]);
        let old = "GET /NNNN HTTP/1.0\r\nHost: a\r\n\r\n";
        corpus.http1(route, format!("to HTTP/1.0: {name}"), ask("GET", old), [backend.clone()]);
        corpus.http2(route, name, ("GET", &[]), [ClientStep::End, ClientStep::Response("GET")], [backend]);
    }
}

/// Numbers and sizes around the limits.
fn limits(corpus: &mut Corpus, route: &'static str) {
    let hints = after_body("HTTP/1.1 103 A\r\n\r\n".repeat(101) + super::OK);
    let reads = vec![ClientStep::Response("GET"); 101];
    let steps = [vec![send(request("GET", "", ""))], reads].concat();
    corpus.http1(route, "too many interim responses", steps, [hints]);
    let fields = |count: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", "a: b\r\n".repeat(count - 1))
    };
    let long =
        |size: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: {}\r\n\r\nok", "a".repeat(size));
    let body: String = ('a'..='z').cycle().take(300_000).collect();
    for (name, text) in [
        ("255 fields", fields(255)),
        ("256 fields", fields(256)),
        ("257 fields", fields(257)),
        ("a field of 60 KiB", long(60 << 10)),
        ("a field of 300 KiB", long(300 << 10)),
        ("a field of 2 MiB", long(2 << 20)),
        ("a large body", format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{body}")),
        (
            "a large chunk",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n{body}\r\n0\r\n\r\n"),
        ),
    ] {
        response(corpus, route, name, after_body(text));
    }
}

/// More bytes arrive after the client has the response, and before its next request.
fn later_surplus(corpus: &mut Corpus, name: &str, text: &str, surplus: &str) {
    let backend =
        vec![BackendStep::Body, reply(text), BackendStep::AwaitClient, reply(surplus), BackendStep::Mark];
    let steps = [
        send(request("GET", "", "")),
        ClientStep::Response("GET"),
        ClientStep::Permit,
        ClientStep::AwaitBackend,
    ];
    corpus.http1("plain", format!("{name} after it"), steps, [backend]);
}

/// The response in two reads of the gateway, at every byte, and each byte in a read of its own.
fn splits(corpus: &mut Corpus, text: &str, then: Then) {
    let end = match then {
        Open => vec![],
        Close | Reset => vec![BackendStep::Close],
    };
    let count = text.matches("HTTP/1.1 ").count();
    let steps = [vec![send(request("GET", "", ""))], vec![ClientStep::Response("GET"); count]].concat();
    for at in 1..text.len() {
        let backend = [vec![BackendStep::Body, BackendStep::Split(text.into(), at)], end.clone()].concat();
        corpus.http1("plain", format!("response split at {at} of {}", text.len()), steps.clone(), [backend]);
    }
    for route in ["plain", "hold"] {
        let backend = [vec![BackendStep::Body, BackendStep::Bytewise(text.into())], end.clone()].concat();
        corpus.http1(
            route,
            format!("response of {} bytes, each on its own", text.len()),
            steps.clone(),
            [backend],
        );
    }
}

/// The backend responds when the connection is opened.
fn unasked(corpus: &mut Corpus) {
    for (name, greeting) in [
        ("response before the request", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"),
        ("408 before the request", "HTTP/1.1 408 Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        ("garbage before the request", "220 mail.example ESMTP\r\n"),
    ] {
        let backend = vec![BackendStep::Body];
        let get = corpus.http1("plain", name, ask("GET", request("GET", "", "")), [backend]);
        get.greeting = greeting.into();
    }
}
