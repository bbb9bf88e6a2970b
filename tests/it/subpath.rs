//! An application under a subpath: the redirect to its directory, X-Forwarded-Prefix, and the mapping of
//! redirects and cookies.

use crate::support::h2::{self, Client};
use crate::support::raw::{ask, fields};
use crate::support::{Gateway, Next, Origin, Socket};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// A backend without knowledge of its subpath.
fn application() -> Origin {
    Origin::scripted("app", |seen, wire| {
        let host = seen.field("host").unwrap_or_default();
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{host}/login?next=/\r\nRefresh: 1; url=/later\r\n\
             Set-Cookie: a=1; Path=/; HttpOnly\r\nSet-Cookie: b=2; Path=/admin\r\nSet-Cookie: c=3\r\n\
             Content-Length: 0\r\n\r\n"
        );
        wire.try_send(head).map_or(Next::Close, |()| Next::Keep)
    })
}

fn gateway(upstream: &str, rewrite: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
server: {{ trusted_proxies: [127.0.0.1] }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
upstreams: {{ app: {{ endpoints: [{upstream}], balance: {{ kind: sticky, cookie: seat }} }} }}
routes:
  - path: /rabbit/
    upstream: app
    plugins: [{{ kind: rewrite, strip_prefix: /rabbit, {rewrite} }}]"
    ))
}

fn get(gateway: &Gateway, target: &str, more: &str) -> crate::support::Response {
    ask(
        gateway.web(),
        format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{more}\r\n"),
    )
}

#[test]
fn redirects_and_cookies_of_the_backend_are_replaced_as_configured() {
    let origin = Origin::scripted("app", |seen, wire| {
        let host = if seen.target() == "/else" { "else.example" } else { "backend:8080" };
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{host}/login\r\nRefresh: 1; url=http://{host}/later\r\n\
             Set-Cookie: a=1; Domain=.Backend; Path=/one/x; HttpOnly\r\nSet-Cookie: c=3; Path=/two\r\n\
             Content-Length: 0\r\n\r\n"
        );
        wire.try_send(head).map_or(Next::Close, |()| Next::Keep)
    });
    let file = |rewrite: &str| {
        format!(
            "routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: rewrite, query: {{ remove: [x] }}, {rewrite} }}] }}]"
        )
    };
    let gateway = Gateway::start(&file(
        "rewrite_location: [{ from: 'http://backend:8080/', to: 'https://{host}/' }, { from: '~^http://(else)[.]example(.*)', to: '/$1$2' }], \
         rewrite_cookie_domain: { from: backend, to: shop.example }, rewrite_cookie_path: { from: /one/, to: / }",
    ));
    let response = get(&gateway, "/", "");
    assert_eq!(response.field("location"), Some("https://shop.example/login"));
    assert_eq!(response.field("refresh"), Some("1; url=https://shop.example/later"));
    let cookies: Vec<_> = fields(&response.head, "set-cookie").collect();
    assert_eq!(cookies, ["a=1; Domain=shop.example; Path=/x; HttpOnly", "c=3; Path=/two"]);
    assert_eq!(get(&gateway, "/else", "").field("location"), Some("/else/login"));
    gateway.reload(&file("rewrite_location: { from: 'http://backend:8080', to: '' }")).unwrap();
    let response = get(&gateway, "/", "");
    assert_eq!(response.field("location"), Some("/login"));
    let cookies: Vec<_> = fields(&response.head, "set-cookie").collect();
    assert_eq!(cookies, ["a=1; Domain=.Backend; Path=/one/x; HttpOnly", "c=3; Path=/two"]);
}

#[test]
fn the_subpath_without_its_slash_is_redirected() {
    let origin = Origin::named("app");
    let gateway = gateway(&origin.to_string(), "add_slash: true");
    let response = get(&gateway, "/rabbit?x=1", "");
    assert_eq!((response.status, response.field("location")), (301, Some("/rabbit/?x=1")));
    let response = Client::connect(gateway.web()).ask(h2::get("/rabbit"), &[]);
    assert_eq!(response.status.as_u16(), 301);
    assert_eq!(origin.count(), 0);
    // A client that follows no redirect is served as before.
    assert_eq!(Socket::open(gateway.web(), "/rabbit").backend, "app");
    let post = "POST /rabbit HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(gateway.web(), post).status, 200);
    assert!(origin.seen().iter().all(|seen| seen.target() == "/"));
}

#[test]
fn the_backend_gets_the_stripped_prefix() {
    let origin = Origin::named("app");
    let gateway = gateway(&origin.to_string(), "add_slash: true");
    for (more, expected) in [("", "/rabbit"), ("X-Forwarded-Prefix: /outer\r\n", "/outer/rabbit")] {
        origin.forget();
        get(&gateway, "/rabbit/x", more);
        let seen = origin.seen();
        assert_eq!((seen[0].target(), seen[0].field("x-forwarded-prefix")), ("/x", Some(expected)));
    }
    origin.forget();
    Socket::open(gateway.web(), "/rabbit/ws");
    assert_eq!(origin.seen()[0].field("x-forwarded-prefix"), Some("/rabbit"));
}

#[test]
fn redirects_and_cookies_of_the_backend_are_mapped_if_configured() {
    let origin = application();
    let both = "rewrite_location: true, rewrite_cookie_path: true";
    for (rewrite, location, refresh, a, b) in [
        (both, "http://shop.example/rabbit/login?next=/", "1; url=/rabbit/later", "/rabbit", "/rabbit/admin"),
        ("add_slash: true", "http://shop.example/login?next=/", "1; url=/later", "/", "/admin"),
    ] {
        let gateway = gateway(&origin.to_string(), rewrite);
        let response = get(&gateway, "/rabbit/x", "");
        assert_eq!(response.field("location"), Some(location));
        assert_eq!(response.field("refresh"), Some(refresh));
        let cookies: Vec<_> = fields(&response.head, "set-cookie").collect();
        assert_eq!(cookies[..3], [&*format!("a=1; Path={a}; HttpOnly"), &*format!("b=2; Path={b}"), "c=3"]);
        assert!(cookies[3].starts_with("seat=") && cookies[3].contains("; Path=/;"), "{cookies:?}");
        let response = Client::connect(gateway.web()).ask(h2::get("/rabbit/x"), &[]);
        assert_eq!(response.field("refresh"), Some(refresh), "HTTP/2");
    }
}

#[test]
fn a_redirect_to_the_backends_own_address_leads_to_the_gateway() {
    let own = Arc::<OnceLock<SocketAddr>>::default();
    let address = Arc::clone(&own);
    let origin = Origin::scripted("app", move |_, wire| {
        let own = address.get().unwrap();
        let head = format!("HTTP/1.1 302 Found\r\nLocation: http://{own}/login\r\nContent-Length: 0\r\n\r\n");
        wire.try_send(head).map_or(Next::Close, |()| Next::Keep)
    });
    own.set(origin.address()).unwrap();
    let gateway = gateway(&origin.to_string(), "rewrite_location: true");
    assert_eq!(get(&gateway, "/rabbit/x", "").field("location"), Some("/rabbit/login"));
}
