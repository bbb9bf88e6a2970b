//! Rejected requests, also by the parser, get a response of the gateway, an access log line and a count.

use crate::support::raw::{Wire, ask};
use crate::support::{Gateway, Origin, eventually};
use serde_json::Value;
use std::path::Path;

/// The lines of an access log, once there are this many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    eventually("the lines are written", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

#[test]
fn a_request_that_no_parser_accepts_gets_a_response_a_log_line_and_a_count() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = Gateway::start(&format!(
        "server: {{ header_timeout: 1s, max_header_size: 8KiB }}
access_log: {{ path: '{}' }}
routes: [{{ upstream: ['{a}'] }}]",
        log.display()
    ));
    let field = "User-Agent: probe\r\nHost: a\r\n";
    let refused = [
        ("NONSENSE\r\n\r\n".to_owned(), 400, "bad_request", "NONSENSE"),
        (format!("GET /a b HTTP/1.1\r\n{field}\r\n"), 400, "bad_request", "/a b"),
        (format!("GET / HTTP/3.0\r\n{field}\r\n"), 505, "version_not_supported", "/"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "version_not_supported", "*"),
        (format!("GET /low http/1.1\r\n{field}\r\n"), 400, "bad_request", "/low"),
        (format!("GET /v HTTP/1.1\r\n{field}X-A: \0\r\n\r\n"), 400, "bad_request", "/v"),
        (format!("GET /n HTTP/1.1\r\n{field}X A: b\r\n\r\n"), 400, "bad_request", "/n"),
        (format!("GET /h HTTP/1.1\r\n{field}Host: b\r\n\r\n"), 400, "bad_request", "/h"),
        ("GET /@ HTTP/1.1\r\nUser-Agent: probe\r\nHost: u@a\r\n\r\n".to_owned(), 400, "bad_request", "/@"),
        (format!("POST /l HTTP/1.1\r\n{field}Content-Length: 5, 5\r\n\r\nhello"), 400, "bad_request", "/l"),
        (
            format!("POST /m HTTP/1.1\r\n{field}Content-Length: 99999999999999999999\r\n\r\n"),
            400,
            "bad_request",
            "/m",
        ),
        (format!("POST /t HTTP/1.1\r\n{field}Transfer-Encoding: gzip\r\n\r\n"), 400, "bad_request", "/t"),
        (format!("POST /0 HTTP/1.0\r\n{field}Transfer-Encoding: chunked\r\n\r\n"), 400, "bad_request", "/0"),
        (format!("GET http://u@b/ HTTP/1.1\r\n{field}\r\n"), 400, "bad_request", "http://u@b/"),
        (
            format!("GET /big HTTP/1.1\r\n{field}X-A: {}\r\n\r\n", "b".repeat(9_000)),
            431,
            "head_too_large",
            "/big",
        ),
        (format!("GET /end HTTP/1.1\r\n{field}X-A: {}", "b".repeat(20_000)), 431, "head_too_large", "/end"),
        (format!("GET /slow HTTP/1.1\r\n{field}X-A: "), 408, "header_timeout", "/slow"),
        ("\u{16}\u{3}\u{1}\u{2}\0".to_owned(), 400, "bad_request", "\\u0016"),
    ];
    for (request, status, token, _) in &refused {
        let response = ask(gateway.web(), request);
        assert_eq!(response.status, *status, "{request:?}: {}", response.text());
        assert!(response.text().contains(token), "{request:?}: {}", response.text());
        assert!(
            response.field("x-request-id").is_some() && response.field("server").is_none(),
            "{request:?}"
        );
        assert_eq!(response.field("connection"), Some("close"), "{request:?}");
    }
    assert_eq!(a.count(), 0);
    let lines = lines(&log, refused.len());
    assert_eq!(lines.len(), refused.len());
    for (request, status, token, path) in &refused {
        // Two threads may swap two lines.
        let logged = |line: &&Value| {
            let path_logged = line["path"].as_str().unwrap_or_default();
            let is_binary =
                path.starts_with('\\') && path_logged.contains('\u{16}') | path_logged.contains("\\x16");
            (path_logged == *path && line["error"] == *token) || is_binary
        };
        let line =
            lines.iter().find(logged).unwrap_or_else(|| panic!("{request:?} is not logged: {lines:#?}"));
        assert_eq!(
            (&line["status"], &line["error"]),
            (&(*status).into(), &(*token).into()),
            "{request:?} {line}"
        );
        assert!(!request.contains("probe") || line["user_agent"] == "probe", "{line}");
    }
    let metrics = gateway.metrics();
    for (token, count) in [
        ("bad_request", 13.0),
        ("head_too_large", 2.0),
        ("header_timeout", 1.0),
        ("version_not_supported", 2.0),
    ] {
        assert_eq!(
            metrics.sum("moongate_http_requests_failed_total", &[("reason", token)]),
            count,
            "{token}"
        );
    }
}

#[test]
fn a_rejected_request_gets_the_detail() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{a}'] }}]"));
    for (request, detail) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "more than one Host"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n", "hexadecimal"),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n", "no setting allows it"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n", "Content-Length"),
    ] {
        let response = ask(gateway.web(), format!("{request}Accept: application/json\r\n\r\n"));
        assert!(response.json()["detail"].as_str().unwrap().contains(detail), "{}", response.text());
    }
}

#[test]
fn hundreds_of_fields_pass_in_their_order() {
    let a = Origin::named("a");
    let gateway =
        Gateway::start(&format!("server: {{ max_header_size: 256KiB }}\nroutes: [{{ upstream: ['{a}'] }}]"));
    let fields: String = (0..1000).map(|n| format!("X-{}: {n}\r\n", n % 300)).collect();
    let request =
        format!("POST / HTTP/1.1\r\n{fields}Host: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    for piece in [request.len(), 5000] {
        a.forget();
        let mut wire = Wire::connect(gateway.web());
        request.as_bytes().chunks(piece).for_each(|piece| wire.send(piece));
        let response = wire.response();
        assert_eq!(response.status, 200, "{}", response.text());
        let seen = &a.seen()[0];
        assert_eq!((seen.field("host"), &seen.body[..]), (Some("a"), &b"hi"[..]));
        assert_eq!(seen.fields("x-0"), ["0", "300", "600", "900"]);
        assert_eq!(seen.fields("x-299"), ["299", "599", "899"]);
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_a_request() {
    let a = Origin::named("a");
    let gateway =
        Gateway::start(&format!("server: {{ keepalive_timeout: 1s }}\nroutes: [{{ upstream: ['{a}'] }}]"));
    let mut wire = gateway.wire();
    for target in ["/a", "/b%2f|c"] {
        for byte in format!("\r\nPOST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").bytes() {
            wire.send([byte]);
        }
        assert_eq!(wire.response().status, 200);
        assert_eq!((a.seen()[0].target(), &a.seen()[0].body[..]), (target, &b"abc"[..]));
        a.forget();
    }
}
