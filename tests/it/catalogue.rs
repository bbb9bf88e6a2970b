//! Each built-in plugin once through the real gateway; what its settings mean in detail is proven beside it.

use crate::support::raw::ask;
use crate::support::{Gateway, Load, Origin, Response, eventually};

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
        crate::support::Next::Keep,
    );
    let gateway = with(&origin, "[{ kind: cors, origins: ['https://*.example'], credentials: true }]");
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
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Frame-Options: DENY\r\n\r\na",
        crate::support::Next::Keep,
    );
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
