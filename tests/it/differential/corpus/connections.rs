//! Early responses, aborts of the client, retries, and connections that are kept or closed.

use super::{
    BackendStep, ClientStep, Corpus, OK, after_body, ask, chunked, reply, request, send, with_length,
};
use std::slice;

const ROUTES: [&str; 2] = ["plain", "shout"];

const CLOSING: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// Uploads in two parts; the backend responds after the first five bytes of the body.
const UPLOADS: [(&str, &str, &str, &str); 2] = [
    ("length", "Content-Length: 11\r\n", "hello", " world"),
    ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", "6\r\n world\r\n0\r\n\r\n"),
];

/// Final responses during an upload, and whether the client's connection ends with them.
const EARLY: [(&str, &str); 8] = [
    ("length", "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
    ("length and close", "HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"),
    ("nothing", "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"),
    ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquiet\r\n0\r\n\r\n"),
    ("interim first", "HTTP/1.1 103 A\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"),
    ("garbage", "nonsense\r\n\r\n"),
    ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
];

/// Failures of the first attempt.
const FAILURES: [(&str, &str, &[BackendStep]); 4] = [
    ("closed at once", "", &[BackendStep::Close]),
    ("closed in the header", "HTTP/1.1 200 O", &[BackendStep::Close]),
    ("reset", "", &[BackendStep::Reset]),
    ("garbage", "nonsense\r\n\r\n", &[]),
];

pub(super) fn add(corpus: &mut Corpus) {
    for route in ROUTES {
        early_responses(corpus, route);
        retries(corpus, route);
    }
    for route in ["plain", "finish"] {
        aborts(corpus, route);
    }
    reuse(corpus);
}

fn early_responses(corpus: &mut Corpus, route: &'static str) {
    for (response, text) in EARLY {
        let count = text.matches("HTTP/1.1 ").count().max(1);
        let reads = vec![ClientStep::Response("POST"); count];
        for (upload, fields, first, rest) in UPLOADS {
            let name = format!("early {response} to {upload}");
            let backend = vec![BackendStep::BodyBytes(5), reply(text), BackendStep::ToEnd];
            let head = send(request("POST", fields, first));
            // The rest is sent after the response, or never.
            let steps = [slice::from_ref(&head), &reads[..], &[send(rest), ClientStep::ToEnd]].concat();
            corpus.http1(route, &*name, steps, [backend.clone()]);
            let steps = [slice::from_ref(&head), &reads[..], &[ClientStep::Close]].concat();
            corpus.http1(route, format!("{name}, without the rest"), steps, [backend.clone()]);
            // Before anything of the body.
            let only_head = vec![reply(text), BackendStep::ToEnd];
            let steps = [&[send(request("POST", fields, ""))], &reads[..], &[send(first), ClientStep::ToEnd]]
                .concat();
            corpus.http1(route, format!("{name}, before the body"), steps, [only_head]);
            // The backend closes its connection.
            let closing = vec![BackendStep::BodyBytes(5), reply(text), BackendStep::Close];
            let steps = [&[head], &reads[..], &[send(rest), ClientStep::ToEnd]].concat();
            corpus.http1(route, format!("{name}, then closed"), steps, [closing]);
        }
        let backend = vec![BackendStep::BodyBytes(5), reply(text), BackendStep::ToEnd];
        let steps = [send("hello"), ClientStep::Response("POST")];
        corpus.http2(route, format!("early {response}"), ("POST", &[]), steps, [backend]);
    }
    // A response that begins early and ends late.
    let parts =
        [("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", "cd"), ("HTTP/1.1 200 OK\r\n\r\nab", "cd")];
    for (first, second) in parts {
        let backend = vec![
            BackendStep::BodyBytes(5),
            reply(first),
            BackendStep::AwaitClient,
            reply(second),
            BackendStep::Close,
        ];
        let (_, fields, begin, rest) = UPLOADS[0];
        let steps = [
            send(request("POST", fields, begin)),
            ClientStep::HeadOf("POST"),
            send(rest),
            ClientStep::Permit,
            ClientStep::Response("POST"),
        ];
        corpus.http1(route, format!("response of {} bytes over an upload", first.len()), steps, [backend]);
    }
}

fn retries(corpus: &mut Corpus, route: &'static str) {
    let large = with_length("PUT", &"x".repeat(100_000));
    let requests = [
        ("GET", request("GET", "", "")),
        ("PUT", with_length("PUT", "a quiet word")),
        ("PUT", chunked("PUT", "5\r\nquiet\r\n0\r\n\r\n")),
        ("POST", with_length("POST", "hello")),
        ("POST", request("POST", "", "")),
        ("PUT", large),
    ];
    let (refused, twice, down) = match route {
        "plain" => ("refused", "twice", "down"),
        _ => ("refused-shout", "twice-shout", "down-shout"),
    };
    for (method, text) in requests {
        let name = format!("{method} of {} bytes", text.len());
        corpus.http1(refused, &*name, ask(method, &*text), [after_body(OK)]);
        corpus.http1(down, &*name, ask(method, &*text), [after_body(OK)]);
        for (failure, sent, end) in FAILURES {
            let failing = [after_body(sent), end.to_vec()].concat();
            let name = format!("{name}, {failure}");
            // The same from every endpoint, and a response of the second one.
            corpus.http1(twice, &*name, ask(method, &*text), [failing.clone(), after_body(OK)]);
            corpus.http1(twice, format!("{name} twice"), ask(method, &*text), [failing.clone()]);
            // A request over a pooled connection.
            let get = ask("GET", request("GET", "", ""));
            let steps = [&get[..], &ask(method, &*text)].concat();
            let scripts = [after_body(OK), failing, after_body(OK)];
            corpus.http1(route, format!("{name}, pooled"), steps, scripts).requests = 2;
        }
    }
    let body = [send("hello"), ClientStep::End, ClientStep::Response("PUT")];
    for (failure, sent, end) in FAILURES {
        let failing = [after_body(sent), end.to_vec()].concat();
        for method in ["PUT", "POST"] {
            let name = format!("{method}, {failure}");
            corpus.http2(twice, name, (method, &[]), body.clone(), [failing.clone(), after_body(OK)]);
        }
    }
    for method in ["PUT", "POST"] {
        corpus.http2(refused, method, (method, &[]), body.clone(), [after_body(OK)]);
        corpus.http2(down, method, (method, &[]), body.clone(), [after_body(OK)]);
    }
    // The backend closed the pooled connection before the request.
    let get = ask("GET", request("GET", "", ""));
    for (method, text) in [("GET", request("GET", "", "")), ("POST", with_length("POST", "hello"))] {
        let steps = [&get[..], &[ClientStep::AwaitBackend], &ask(method, text)].concat();
        let closed = [after_body(OK), vec![BackendStep::CloseThenMark]].concat();
        corpus.http1(route, format!("{method} after a close"), steps, [closed, after_body(OK)]).requests = 2;
    }
}

/// The client disconnects in every phase.
fn aborts(corpus: &mut Corpus, route: &'static str) {
    let hang = || vec![BackendStep::Body, BackendStep::Mark, BackendStep::ToEnd];
    for (name, leave) in [("close", ClientStep::Close), ("reset", ClientStep::Reset)] {
        if route == "finish" && name == "close" {
            // The close of both directions looks like a half-close.
            continue;
        }
        let left = |text: String| [send(text), ClientStep::AwaitBackend, leave.clone()];
        corpus.http1(route, format!("{name} while waiting"), left(request("GET", "", "")), [hang()]);
        corpus.http1(route, format!("{name} after a body"), left(with_length("POST", "hello")), [hang()]);
        corpus.http1(
            route,
            format!("{name} after chunks"),
            left(chunked("POST", "5\r\nhello\r\n0\r\n\r\n")),
            [hang()],
        );
        for (upload, fields, first, _) in UPLOADS {
            let backend = vec![BackendStep::BodyBytes(5), BackendStep::Mark, BackendStep::ToEnd];
            let steps = left(request("POST", fields, first));
            corpus.http1(route, format!("{name} in an upload with {upload}"), steps, [backend]);
        }
        for (response, text) in [
            ("length", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart"),
            ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
            ("until close", "HTTP/1.1 200 OK\r\n\r\npart"),
        ] {
            let backend = vec![BackendStep::Body, reply(text), BackendStep::ToEnd];
            let steps = [send(request("GET", "", "")), ClientStep::HeadOf("GET"), leave.clone()];
            corpus.http1(route, format!("{name} in a response with {response}"), steps, [backend]);
        }
        let begun = [send("GET /NNNN HTTP/1.1\r\nHo"), leave.clone()];
        corpus.http1(route, format!("{name} in the header"), begun, [hang()]);
    }
    let response = vec![BackendStep::Body, BackendStep::Mark, BackendStep::AwaitClient, reply(OK)];
    if route == "finish" {
        let steps = [
            send(request("GET", "", "")),
            ClientStep::AwaitBackend,
            ClientStep::HalfClose,
            ClientStep::Permit,
            ClientStep::Response("GET"),
            ClientStep::ToEnd,
        ];
        corpus.http1(route, "half-close while waiting", steps, [response]);
    } else {
        let steps = [
            send(request("GET", "", "")),
            ClientStep::AwaitBackend,
            ClientStep::HalfClose,
            ClientStep::ToEnd,
        ];
        corpus.http1(route, "half-close while waiting", steps, [hang()]);
    }
    for (name, steps, backend) in [
        ("waiting", vec![ClientStep::End, ClientStep::AwaitBackend, ClientStep::Reset], hang()),
        (
            "in an upload",
            vec![send("hello"), ClientStep::AwaitBackend, ClientStep::Reset],
            vec![BackendStep::BodyBytes(5), BackendStep::Mark, BackendStep::ToEnd],
        ),
    ] {
        corpus.http2(route, format!("reset while {name}"), ("POST", &[]), steps, [backend]);
    }
}

/// Several requests on a connection, one after the other or at once.
fn reuse(corpus: &mut Corpus) {
    let get = || request("GET", "", "");
    for route in ROUTES {
        for (name, text) in [("kept", OK), ("closed by the backend", CLOSING)] {
            let one = ask("GET", get());
            let post = ask("POST", with_length("POST", "hello"));
            let steps = [&one[..], &post[..], &one[..]].concat();
            corpus.http1(route, format!("three requests, {name}"), steps, [after_body(text)]).requests = 3;
            let all = [get(), with_length("POST", "hello"), chunked("PUT", "5\r\nquiet\r\n0\r\n\r\n"), get()]
                .concat();
            let steps = [&[send(all)], &vec![ClientStep::Response("GET"); 4][..]].concat();
            corpus
                .http1(route, format!("four requests at once, {name}"), steps, [after_body(text)])
                .requests = 4;
        }
    }
    for route in ["unpooled", "slow"] {
        corpus.http1(route, "a request", ask("GET", get()), [after_body(OK)]);
    }
    // The route's time limits.
    let hang = vec![BackendStep::Body, BackendStep::ToEnd];
    corpus.http1("slow", "no response", ask("GET", get()), [hang.clone()]);
    corpus.http1("slow", "no response to a body", ask("POST", with_length("POST", "hello")), [hang.clone()]);
    corpus.http2("slow", "no response", ("GET", &[]), [ClientStep::End, ClientStep::Response("GET")], [hang]);
    let half = after_body("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart");
    let half = [half, vec![BackendStep::ToEnd]].concat();
    corpus.http1("slow", "half a response", ask("GET", get()), [half.clone()]);
    corpus.http2(
        "slow",
        "half a response",
        ("GET", &[]),
        [ClientStep::End, ClientStep::Response("GET")],
        [half],
    );
    // Changes of a plugin.
    for (route, text) in
        [("status-204", OK), ("status-200", "HTTP/1.1 204 No Content\r\n\r\n"), ("method", OK), ("whole", OK)]
    {
        corpus.http1(route, "changed", ask("POST", with_length("POST", "a quiet word")), [after_body(text)]);
        corpus.http1(route, "changed", ask("GET", get()), [after_body(text)]);
        let steps = [send("a quiet word"), ClientStep::End, ClientStep::Response("POST")];
        corpus.http2(route, "changed", ("POST", &[]), steps, [after_body(text)]);
    }
}
