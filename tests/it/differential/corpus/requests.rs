//! Requests: methods, fields, framings, and splits.

use super::{
    BackendStep, ClientStep, Corpus, OK, after_body, ask, chunked, reply, request, send, with_length,
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const ROUTES: [&str; 2] = ["plain", "shout"];

const CHUNKS: &str = "7;a=b\r\na quiet\r\n5\r\n word\r\n0\r\nX-Trailer: t\r\n\r\n";

/// Fields of a GET.
const FIELDS: [(&str, &str); 12] = [
    ("spelling and order", "x-LOWER-upper: 1\r\nB: 2\r\nA: 3\r\n"),
    ("repeated fields", "X-A: 1\r\nX-B: 2\r\nx-a: 3\r\n"),
    ("empty values and blanks", "X-Empty:\r\nX-Blanks:   a  b   \r\nX-Tab:\ta\r\n"),
    ("bytes above ASCII", "X-Utf: \u{e9}\u{2713}\r\n"),
    (
        "fields of one connection",
        "Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: a\r\nProxy-Connection: close\r\n",
    ),
    ("authorization of a proxy", "Proxy-Authorization: Basic x\r\nAuthorization: Basic y\r\n"),
    (
        "another protocol",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    ),
    (
        "forwarded fields",
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-Proto: https\r\n",
    ),
    ("cookies", "Cookie: a=1\r\nCookie: b=2\r\n"),
    ("Via and Max-Forwards", "Via: 1.0 other\r\nMax-Forwards: 5\r\n"),
    ("an expectation without a body", "Expect: 100-continue\r\n"),
    ("a length of zero", "Content-Length: 0\r\n"),
];

/// Requests with a body.
const FRAMINGS: [(&str, &str); 12] = [
    ("length", "Content-Length: 5\r\n\r\nquiet"),
    ("repeated length", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("listed length", "Content-Length: 5, 5\r\n\r\nhello"),
    ("length with leading zeros", "Content-Length: 0005\r\n\r\nhello"),
    ("chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nquiet\r\n0\r\n\r\n"),
    ("no chunks", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("extensions", "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\" ;c\r\nhello\r\n0;d\r\n\r\n"),
    (
        "announced trailers",
        "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    ),
    ("coding in capitals", "Transfer-Encoding: CHUNKED\r\n\r\n00005\r\nhello\r\n00\r\n\r\n"),
    ("length and chunks", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("wrong line end of a chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"),
    ("wrong first chunk", "Transfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n"),
];

/// Requests of HTTP/1.0, and the end of the client's connection.
const VERSIONS: [(&str, &str); 7] = [
    ("HTTP/1.0", "GET /NNNN HTTP/1.0\r\nHost: a.example\r\n\r\n"),
    ("HTTP/1.0 without Host", "GET /NNNN HTTP/1.0\r\n\r\n"),
    ("HTTP/1.0 with keep-alive", "GET /NNNN HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
    ("HTTP/1.0 with a body", "POST /NNNN HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    ("close", "GET /NNNN HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    (
        "close after a body",
        "POST /NNNN HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("absolute target", "GET http://b.example/NNNN?q=%20a HTTP/1.1\r\nHost: a\r\n\r\n"),
];

/// The requests in two reads of the gateway.
pub(super) fn add_splits(corpus: &mut Corpus) {
    for text in [with_length("PUT", "hello"), chunked("POST", CHUNKS)] {
        splits(corpus, &text);
    }
}

pub(super) fn add(corpus: &mut Corpus) {
    for route in ROUTES {
        methods(corpus, route);
        for (name, fields) in FIELDS {
            corpus.http1(route, name, ask("GET", request("GET", fields, "")), [after_body(OK)]);
        }
        for (name, rest) in FRAMINGS {
            let text = format!("POST /NNNN HTTP/1.1\r\nHost: a\r\n{rest}");
            corpus.http1(route, name, ask("POST", text), [after_body(OK)]);
        }
        for (name, text) in VERSIONS {
            corpus.http1(route, name, ask("GET", text), [after_body(OK)]);
        }
        large_bodies(corpus, route);
        expectations(corpus, route);
    }
}

fn methods(corpus: &mut Corpus, route: &'static str) {
    for method in METHODS {
        let sent =
            after_body(if method == "HEAD" { "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n" } else { OK });
        for (name, text) in [
            ("no body", request(method, "", "")),
            ("a length", with_length(method, "a quiet word")),
            ("chunks", chunked(method, CHUNKS)),
        ] {
            corpus.http1(route, format!("{method} with {name}"), ask(method, text), [sent.clone()]);
        }
        let response = ClientStep::Response(method);
        corpus.http2(
            route,
            format!("{method} without a body"),
            (method, &[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")]),
            [ClientStep::End, response.clone()],
            [sent.clone()],
        );
        let body = [send("a quiet word"), ClientStep::End, response.clone()];
        corpus.http2(route, format!("{method} with a body"), (method, &[]), body.clone(), [sent.clone()]);
        let fields: &[_] = &[("content-length", "12"), ("expect", "100-continue")];
        corpus.http2(route, format!("{method} with a length"), (method, fields), body, [sent.clone()]);
    }
}

fn large_bodies(corpus: &mut Corpus, route: &'static str) {
    for size in [16 << 10, (16 << 10) + 1, 70_000, 300_000] {
        let body: String = ('a'..='z').cycle().take(size).collect();
        let chunks = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
        let name = format!("{size} bytes");
        corpus.http1(
            route,
            format!("{name} with a length"),
            ask("POST", with_length("POST", &body)),
            [after_body(OK)],
        );
        corpus.http1(
            route,
            format!("{name} in a chunk"),
            ask("POST", chunked("POST", &chunks)),
            [after_body(OK)],
        );
        let steps = [send(body.clone()), ClientStep::End, ClientStep::Response("POST")];
        corpus.http2(route, name, ("POST", &[]), steps, [after_body(OK)]);
    }
}

/// Bodies that are sent after a 100 (Continue), of the gateway or of the backend too.
fn expectations(corpus: &mut Corpus, route: &'static str) {
    for (name, fields, body) in [
        ("length", "Content-Length: 5\r\n", "hello"),
        ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let head = request("POST", &format!("Expect: 100-continue\r\n{fields}"), "");
        let steps = [send(head), ClientStep::Response("POST"), send(body), ClientStep::Response("POST")];
        corpus.http1(route, format!("100-continue with {name}"), steps.clone(), [after_body(OK)]);
        let own = vec![reply("HTTP/1.1 100 Continue\r\n\r\n"), BackendStep::Body, reply(OK)];
        let twice = [&steps[..3], &[ClientStep::Response("POST"), ClientStep::Response("POST")]].concat();
        corpus.http1(route, format!("100 of the backend with {name}"), twice, [own]);
    }
}

/// The request in two reads, at every byte, and each byte in a read of its own.
fn splits(corpus: &mut Corpus, text: &str) {
    let length = text.len() - "/NNNN".len() + "/plain/0000".len();
    for at in 1..length {
        let steps = [ClientStep::Split(text.into(), at), ClientStep::Response("POST")];
        corpus.http1("plain", format!("split at {at} of {length}"), steps, [after_body(OK)]);
    }
    for route in ["plain", "hold"] {
        let steps = [ClientStep::Bytewise(text.into()), ClientStep::Response("POST")];
        corpus.http1(route, format!("{length} bytes, each on its own"), steps, [after_body(OK)]);
    }
}
