//! Each built-in plugin once through the real gateway; what its settings mean in detail is proven beside it.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response};

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
    let gateway = with(&origin, "[{ kind: respond, status: 203, body: hello, headers: { X-Path: '{path}' } }]");
    let response = asked(&gateway, "GET /x", "");
    assert_eq!((response.status, response.text().as_str()), (203, "hello"));
    assert_eq!(response.field("x-path"), Some("/x"));
    assert_eq!(origin.count(), 0);
}
