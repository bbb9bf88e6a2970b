//! Each built-in plugin once through the real gateway; what its settings mean in detail is proven beside it.

use crate::support::raw::ask;
use crate::support::{Gate, Gateway, LIMIT, Load, Next, Origin, Response, Socket, eventually};
use std::io::Read;
use std::sync::Arc;

/// `sesame`, by bcrypt at a cost of 12.
const HASH: &str = "$2b$12$abcdefghijklmnopqrstuuJkleeYqGi6JJcNM.d95WxQIKjR4lCny";

/// A gateway with one route to `origin` and these plugins.
fn with(origin: &Origin, plugins: &str) -> Gateway {
    Gateway::start(&format!("routes: [{{ upstream: [{origin}], plugins: {plugins} }}]"))
}

fn asked(gateway: &Gateway, line: &str, fields: &str) -> Response {
    ask(gateway.web(), format!("{line} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n"))
}

#[test]
fn ip_access_refuses_who_is_not_allowed() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: ip_access, allow: [192.0.2.0/24] }}] }}]"
    ));
    let from = |client: &str| asked(&gateway, "GET /", &format!("X-Forwarded-For: {client}\r\n"));
    assert_eq!(from("192.0.2.1").text(), "a");
    let refused = from("192.0.3.1");
    assert_eq!(refused.status, 403);
    assert!(refused.text().starts_with("403 Forbidden: address_denied (request "), "{}", refused.text());
    assert_eq!(origin.count(), 1);
}

#[test]
fn redirect_sends_elsewhere_and_knows_https_from_a_trusted_proxy() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
routes:
  - {{ upstream: [{origin}], plugins: [{{ kind: redirect, https: true }}] }}
  - {{ path: /old/, upstream: [{origin}], plugins: [{{ kind: redirect, to: 'https://b.example{{path}}', status: 301 }}] }}"
    ));
    let moved = asked(&gateway, "GET /x?y=1", "");
    assert_eq!((moved.status, moved.field("location")), (308, Some("https://a.example/x?y=1")));
    let there = asked(&gateway, "GET /x?y=1", "X-Forwarded-Proto: https\r\n");
    assert_eq!(there.text(), "a");
    let old = asked(&gateway, "GET /old/x?y=1", "");
    assert_eq!((old.status, old.field("location")), (301, Some("https://b.example/old/x")));
}

#[test]
fn respond_answers_alone() {
    let origin = Origin::named("a");
    let gateway =
        with(&origin, "[{ kind: respond, status: 203, body: hello, headers: { X-Path: '{path}' } }]");
    let response = asked(&gateway, "GET /x", "");
    assert_eq!((response.status, response.text().as_str()), (203, "hello"));
    assert_eq!(response.field("x-path"), Some("/x"));
    assert_eq!(origin.count(), 0);
}

#[test]
fn cors_answers_preflights_and_names_who_may_read() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nAccess-Control-Allow-Origin: *\r\n\r\na",
        Next::Keep,
    );
    let gateway = with(&origin, "[{ kind: cors, origins: ['https://*.example'], allow_credentials: true }]");
    let preflight = "Origin: https://b.example\r\nAccess-Control-Request-Method: PUT\r\n";
    let answer = asked(&gateway, "OPTIONS /", preflight);
    assert_eq!(
        (answer.status, answer.field("access-control-allow-origin")),
        (204, Some("https://b.example"))
    );
    assert_eq!(origin.count(), 0);
    assert_eq!(asked(&gateway, "OPTIONS /", &preflight.replace("b.example", "evil.org")).status, 403);
    let answer = asked(&gateway, "GET /", "Origin: https://b.example\r\n");
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://b.example"));
    assert_eq!(answer.field("vary"), Some("origin"));
    assert_eq!(asked(&gateway, "GET /", "").field("access-control-allow-origin"), None);
}

#[test]
fn origin_check_refuses_requests_and_handshakes_of_other_pages() {
    let origin = Origin::named("a");
    let gateway = with(&origin, "[{ kind: origin_check, origins: ['https://b.example'] }]");
    let handshake =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (fields, status) in [
        ("Origin: https://b.example\r\n".to_owned(), 200),
        ("Origin: http://a.example\r\n".to_owned(), 200),
        ("Origin: https://evil.org\r\n".to_owned(), 403),
        (format!("Origin: https://evil.org\r\nConnection: upgrade\r\n{handshake}"), 403),
    ] {
        assert_eq!(asked(&gateway, "POST /", &fields).status, status, "{fields}");
    }
}

#[test]
fn origin_check_compares_the_scheme_that_a_trusted_proxy_tells() {
    let origin = Origin::named("a");
    let with = |trusted: &str| {
        Gateway::start_whole(&format!(
            "server: {{ trusted_proxies: [{trusted}] }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
             routes: [{{ upstream: ['{origin}'], plugins: [origin_check] }}]"
        ))
    };
    let (behind, open) = (with("127.0.0.1"), with("192.0.2.1"));
    let both = |gateway: &Gateway, from: &str, proto: Option<&str>| {
        let told = proto.map(|proto| format!("X-Forwarded-Proto: {proto}\r\n")).unwrap_or_default();
        let fields = format!("Host: a.example\r\nOrigin: {from}\r\n{told}Connection: close\r\n\r\n");
        let mut statuses: Vec<_> = ["1.0", "1.1"]
            .map(|version| ask(gateway.web(), format!("POST / HTTP/{version}\r\n{fields}")).status)
            .into();
        let mut request =
            http::Request::builder().method("POST").uri("http://a.example/").header("origin", from);
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let client = crate::support::h2::Client::connect(gateway.web());
        statuses.push(client.ask(request.body(()).unwrap(), &[]).status.as_u16());
        statuses.dedup();
        assert_eq!(statuses.len(), 1, "every version says the same");
        statuses[0]
    };
    for (from, proto, told, untold) in [
        ("https://a.example", Some("https"), 200, 200),
        ("http://a.example", Some("https"), 403, 200),
        ("http://a.example", Some("http"), 200, 200),
        ("https://a.example", Some("http"), 403, 200),
        ("https://a.example", None, 200, 200),
        ("http://a.example", None, 200, 200),
        ("https://b.example", Some("https"), 403, 403),
    ] {
        assert_eq!(both(&behind, from, proto), told, "{from} {proto:?}");
        assert_eq!(both(&open, from, proto), untold, "{from} {proto:?}: the peer is no trusted proxy");
    }
}

/// The hash of `sesame` takes about 50 ms and more; meanwhile the one worker answers others.
#[test]
fn basic_auth_asks_and_never_holds_a_worker() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(
        &format!(
            "server: {{ threads: 1 }}
routes:
  - {{ path: /open/, upstream: [{origin}] }}
  - path: /
    upstream: [{origin}]
    plugins:
      - kind: basic_auth
        users: {{ ada: HASH }}
        user_header: X-User
        remove_header: true"
        )
        .replace("HASH", HASH),
    );
    let anonymous = asked(&gateway, "GET /", "");
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.field("www-authenticate"), Some("Basic realm=\"restricted\", charset=\"UTF-8\""));
    // `ada:sesame`
    let known = asked(&gateway, "GET /", "Authorization: Basic YWRhOnNlc2FtZQ==\r\n");
    assert_eq!(known.text(), "a");
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.field("x-user"), seen.field("authorization")), (Some("ada"), None));

    let load = Load::start(gateway.web(), "/open/", 1);
    let mut waiting = gateway.wire();
    // `ada:wrong`
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWRhOndyb25n\r\n\r\n");
    load.await_more(3);
    waiting.patience(std::time::Duration::from_millis(1));
    let early = waiting.fill().is_ok();
    waiting.patience(crate::support::LIMIT);
    assert!(!early, "others are answered before the hash is known");
    assert_eq!(waiting.response().status, 401);
    assert_eq!(load.stop(), Vec::<String>::new());
}

#[test]
fn a_file_switches_maintenance_on_and_off() {
    let origin = Origin::named("a");
    let gateway = with(&origin, "[{ kind: maintenance, when_file: closed, body: later }]");
    assert_eq!(gateway.get("/").text(), "a");
    let file = gateway.file().with_file_name("closed");
    std::fs::write(&file, "").unwrap();
    let closed =
        eventually("the file is seen", || Some(gateway.get("/")).filter(|answer| answer.status == 503));
    assert_eq!((closed.text().as_str(), closed.field("retry-after")), ("later", Some("300")));
    std::fs::remove_file(&file).unwrap();
    eventually("the file is missed", || (gateway.get("/").status == 200).then_some(()));
}

#[test]
fn security_headers_fill_in_what_the_backend_does_not_say() {
    let origin =
        Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Frame-Options: DENY\r\n\r\na", Next::Keep);
    let gateway = Gateway::start(&format!(
        "server: {{ trusted_proxies: [127.0.0.1] }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: security_headers, hsts: 1d }}] }}]"
    ));
    let plain = asked(&gateway, "GET /", "");
    assert_eq!(
        (plain.field("x-frame-options"), plain.field("strict-transport-security")),
        (Some("DENY"), None)
    );
    assert_eq!(plain.field("x-content-type-options"), Some("nosniff"));
    let secure = asked(&gateway, "GET /", "X-Forwarded-Proto: https\r\n");
    assert_eq!(secure.field("strict-transport-security"), Some("max-age=86400"));
}

#[test]
fn rewrite_changes_what_the_backend_is_asked_for() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes:
  - path: /api/
    upstream: [{origin}]
    plugins:
      - {{ kind: rewrite, strip_prefix: /api, add_prefix: /v2, query: {{ set: {{ from: '{{client_ip}}' }}, remove: [debug] }} }}"
    ));
    assert_eq!(asked(&gateway, "GET /api/x?debug=1&y=2", "").text(), "a");
    assert_eq!(origin.seen()[0].target(), "/v2/x?y=2&from=127.0.0.1");
    // A handshake is a request too.
    Socket::open(gateway.web(), "/api/ws").echo("hello");
    assert_eq!(origin.seen()[1].target(), "/v2/ws?from=127.0.0.1");
}

#[test]
fn body_limit_refuses_at_once_or_as_soon_as_too_much_has_come() {
    let origin = Origin::named("a");
    let gateway = with(&origin, "[{ kind: body_limit, max_size: 10 }]");
    assert_eq!(asked(&gateway, "POST /", "Content-Length: 11\r\n").status, 413);
    assert_eq!(origin.count(), 0);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let fits = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{chunked}\r\na\r\n0123456789\r\n0\r\n\r\n"
    );
    assert_eq!(ask(gateway.web(), &fits).status, 200);
    assert_eq!(origin.seen()[0].body, b"0123456789");
    let more = fits.replace("0\r\n\r\n", "1\r\nx\r\n0\r\n\r\n");
    let refused = ask(gateway.web(), &more);
    assert_eq!(
        (refused.status, refused.text().starts_with("413 Payload Too Large: body_too_large")),
        (413, true)
    );
    let exact = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(ask(gateway.web(), exact).status, 200);
    // A length that is fine leaves the body's framing alone.
    assert_eq!(origin.seen().pop().unwrap().field("content-length"), Some("10"));
}

/// An origin that answers `/long` with 5000 bytes of text, `/image` with as many of an image, and `/events` with
/// two events, the second behind the gate.
fn pages(gate: Arc<Gate>) -> Origin {
    Origin::scripted("pages", move |seen, wire| {
        let page = |sort: &str| {
            let text = "0123456789".repeat(500);
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {sort}\r\nETag: \"v1\"\r\nContent-Length: 5000\r\n\r\n{text}"
            )
        };
        let sent = match seen.target() {
            "/image" => wire.try_send(page("image/png")),
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let first = wire.try_send(format!("{head}9\r\ndata: 1\n\n\r\n"));
                gate.pass_within(LIMIT);
                first.and_then(|()| wire.try_send("9\r\ndata: 2\n\n\r\n0\r\n\r\n"))
            }
            _ => wire.try_send(page("text/plain")),
        };
        sent.map_or(Next::Close, |()| Next::Keep)
    })
}

fn gunzip(bytes: &[u8]) -> String {
    let mut plain = String::new();
    // A stream that has not ended reads as far as it goes.
    let _ = flate2::read::GzDecoder::new(bytes).read_to_string(&mut plain);
    plain
}

#[test]
fn compress_makes_text_smaller_and_leaves_the_rest_alone() {
    let origin = pages(Arc::default());
    let gateway = with(&origin, "[compress]");
    let small = asked(&gateway, "GET /long", "Accept-Encoding: gzip\r\n");
    assert_eq!((small.field("content-encoding"), small.field("etag")), (Some("gzip"), Some("W/\"v1\"")));
    assert!(small.body.len() < 200, "{}", small.body.len());
    assert_eq!(gunzip(&small.body), "0123456789".repeat(500));
    for (line, fields) in [
        ("GET /long", ""),
        ("GET /long", "Accept-Encoding: gzip;q=0\r\n"),
        ("GET /image", "Accept-Encoding: gzip\r\n"),
    ] {
        let plain = asked(&gateway, line, fields);
        assert_eq!((plain.field("content-encoding"), plain.body.len()), (None, 5000), "{line} {fields}");
        assert_eq!(plain.field("content-length"), Some("5000"));
        assert_eq!(plain.field("vary").is_some(), line == "GET /long");
    }
    // Both answers of one connection are whole.
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("GET /long HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        assert_eq!(gunzip(&wire.response().body).len(), 5000);
    }
}

#[test]
fn compressed_events_pass_one_by_one() {
    let gate = Arc::new(Gate::default());
    let origin = pages(gate.clone());
    let gateway = with(&origin, "[{ kind: compress, encodings: [gzip] }]");
    let mut wire = gateway.wire();
    wire.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = wire.head().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&head).to_lowercase().contains("content-encoding: gzip"));
    // The backend waits: what can be read now came with the first event alone.
    let mut body = Vec::new();
    while gunzip(&body) != "data: 1\n\n" {
        body.extend(wire.chunk().unwrap());
    }
    gate.open();
    body.extend(wire.chunks().unwrap().1);
    assert_eq!(gunzip(&body), "data: 1\n\ndata: 2\n\n");
}

/// A gateway's own answers and those of other plugins pass `compress` too, when they are worth it.
#[test]
fn an_answer_that_no_backend_gave_is_compressed_when_it_is_long() {
    let origin = Origin::named("a");
    let body = "x".repeat(5000);
    let gateway = Gateway::start(&format!(
        "plugins: [compress]
routes:
  - {{ path: /long, upstream: [{origin}], plugins: [{{ kind: respond, body: {body} }}] }}
  - {{ path: /short, upstream: [{origin}], plugins: [{{ kind: respond, status: 403 }}] }}
  - {{ path: /gone, upstream: [127.0.0.1:1] }}"
    ));
    let long = asked(&gateway, "GET /long", "Accept-Encoding: gzip\r\n");
    assert_eq!((long.field("content-encoding"), gunzip(&long.body)), (Some("gzip"), body));
    for (path, status) in [("/short", 403), ("/gone", 502)] {
        let short = asked(&gateway, &format!("GET {path}"), "Accept-Encoding: gzip\r\n");
        assert_eq!((short.status, short.field("content-encoding")), (status, None));
    }
}

#[test]
fn the_access_log_says_who_came_and_who_was_refused() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let yaml = format!(
        "access_log: {{ format: json, path: '{}' }}
plugins:
  - {{ kind: basic_auth, name: staff, users: {{ ada: HASH }} }}
  - {{ kind: body_limit, max_size: 1 }}
routes: [{{ upstream: ['{origin}'] }}]",
        path.display()
    );
    let gateway = Gateway::start(&yaml.replace("HASH", HASH));
    let ada = "Authorization: Basic YWRhOnNlc2FtZQ==\r\n";
    assert_eq!(asked(&gateway, "GET /", ada).status, 200);
    assert_eq!(asked(&gateway, "POST /", &format!("{ada}Content-Length: 2\r\n")).status, 413);
    let lines = eventually("both lines are written", || {
        let text = std::fs::read_to_string(&path).ok()?;
        (text.lines().count() == 2 && text.ends_with('\n')).then_some(text)
    });
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["plugins"]["staff"]["user"], "ada");
        let refused = if line["status"] == 413 { "body_too_large".into() } else { serde_json::Value::Null };
        assert_eq!(line["plugins"]["body_limit"]["refused"], refused);
    }
}
