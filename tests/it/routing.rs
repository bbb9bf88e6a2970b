//! Routing of requests to upstreams, independent of the spelling of a path.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response};
use std::collections::HashMap;

fn asked(gateway: &Gateway, method: &str, host: &str, target: &str, fields: &str) -> Response {
    let connection = "Connection: close\r\n";
    ask(gateway.web(), format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{connection}{fields}\r\n"))
}

#[test]
fn the_most_specific_route_wins() {
    let origins = ["any", "exact", "long", "short", "equal", "regex", "post", "beta", "query", "wild"]
        .map(|name| (name, Origin::named(name)));
    let at: HashMap<_, _> = origins.iter().map(|(name, origin)| (*name, origin.address())).collect();
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ upstream: [{}] }}
  - {{ host: one.example, upstream: [{}] }}
  - {{ host: '*.example', upstream: [{}] }}
  - {{ path: /api/, upstream: [{}] }}
  - {{ path: /api/v1/, upstream: [{}] }}
  - {{ path: =/api/v1/me, upstream: [{}] }}
  - {{ path: '~^/api/v1/[0-9]+$', upstream: [{}] }}
  - {{ path: /api/, methods: [POST], upstream: [{}] }}
  - {{ path: /api/, headers: {{ x-beta: '1' }}, upstream: [{}] }}
  - {{ path: /api/, query: {{ canary: 'yes' }}, upstream: [{}] }}
",
        at["any"],
        at["exact"],
        at["wild"],
        at["short"],
        at["long"],
        at["equal"],
        at["regex"],
        at["post"],
        at["beta"],
        at["query"],
    ));
    for (method, host, target, fields, name) in [
        ("GET", "localhost", "/", "", "any"),
        ("GET", "localhost", "/apis", "", "any"),
        ("GET", "one.example", "/", "", "exact"),
        ("GET", "ONE.example:8080", "/api/", "", "exact"),
        ("GET", "one.example.", "/", "", "exact"),
        ("GET", "two.example", "/", "", "wild"),
        ("GET", "a.b.example", "/", "", "wild"),
        ("GET", "example", "/", "", "any"),
        ("GET", "localhost", "/api", "", "short"),
        ("GET", "localhost", "/api/", "", "short"),
        ("GET", "localhost", "/api/v10", "", "short"),
        ("GET", "localhost", "/api/v1", "", "long"),
        ("GET", "localhost", "/api/v1/you", "", "long"),
        ("GET", "localhost", "/api/v1/me", "", "equal"),
        ("GET", "localhost", "/api/v1/me?x=1", "", "equal"),
        ("GET", "localhost", "/api/v1/me/", "", "long"),
        ("GET", "localhost", "/api/v1/42", "", "regex"),
        ("POST", "localhost", "/api/x", "Content-Length: 0\r\n", "post"),
        ("GET", "localhost", "/api/x", "X-Beta: 1\r\n", "beta"),
        ("GET", "localhost", "/api/x", "X-Beta: 2\r\n", "short"),
        ("GET", "localhost", "/api/x?a=b&canary=yes", "", "query"),
        ("GET", "localhost", "/api/x?canary=%79es", "", "query"),
        ("GET", "localhost", "/api/x?canary=no", "", "short"),
    ] {
        let response = asked(&gateway, method, host, target, fields);
        assert_eq!(response.text(), name, "{method} {host} {target} {fields:?}");
    }
}

#[test]
fn hosts_match_by_regex_and_wildcards_at_both_ends() {
    let origins =
        ["any", "exact", "first", "last", "shop", "early", "late"].map(|name| (name, Origin::named(name)));
    let at: HashMap<_, _> = origins.iter().map(|(name, origin)| (*name, origin.address())).collect();
    let file = |early: &str, late: &str| {
        format!(
            "routes:
  - {{ upstream: [{}] }}
  - {{ host: ['~^shop-(?<town>[a-z]+)[.]example[.]com$', '~^\\[2001:db8:'], upstream: [{}] }}
  - {{ host: '~{early}', upstream: [{}] }}
  - {{ host: '~{late}', upstream: [{}] }}
  - {{ host: 'www.example.*', upstream: [{}] }}
  - {{ host: '*.example.org', upstream: [{}] }}
  - {{ host: shop-x.example.com, upstream: [{}] }}
",
            at["any"], at["shop"], at["early"], at["late"], at["last"], at["first"], at["exact"],
        )
    };
    let gateway = Gateway::start(&file("^api", "^api[.]v2"));
    for (host, name) in [
        ("localhost", "any"),
        ("shop-x.example.com", "exact"),
        ("SHOP-Rome.Example.COM.:8080", "shop"),
        ("shop-1.example.com", "any"),
        ("[2001:DB8::0:1]:80", "shop"),
        ("www.example.org", "first"),
        ("www.example.co.uk:80", "last"),
        ("api.v2.net", "early"),
    ] {
        assert_eq!(asked(&gateway, "GET", host, "/", "").text(), name, "{host}");
    }
    gateway.reload(&file("^api[.]v2", "^api")).unwrap();
    for (host, name) in [("api.v2.net", "early"), ("api.v3.net", "late")] {
        assert_eq!(asked(&gateway, "GET", host, "/", "").text(), name, "{host}");
    }
}

#[test]
fn a_request_without_a_route_is_404_with_a_token() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ path: /only/, upstream: [{a}] }}]"));
    let response = asked(&gateway, "GET", "localhost", "/other", "Accept: application/json\r\n");
    assert_eq!(response.status, 404);
    assert_eq!(response.json()["error"], "no_route");
    assert_eq!(a.count(), 0);
}

#[test]
fn weighted_upstreams_take_their_shares() {
    let (stable, canary) = (Origin::named("stable"), Origin::named("canary"));
    let gateway = Gateway::start(&format!(
        "upstreams:
  stable: {{ endpoints: [{stable}] }}
  canary: {{ endpoints: [{canary}] }}
routes: [{{ upstream: {{ stable: 9, canary: 1 }} }}]"
    ));
    let names = gateway.names("/", 500);
    let canary = names.iter().filter(|name| *name == "canary").count();
    // Ten percent of 500, within five standard deviations of a fair draw.
    assert!((17..=83).contains(&canary), "{canary} of 500");
}

#[test]
fn a_route_of_one_listener_is_not_there_on_the_other() {
    let (inner, outer) = (Origin::named("inner"), Origin::named("outer"));
    let gateway = Gateway::start_whole(&format!(
        "listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: private, address: 127.0.0.1:0 }}
routes:
  - {{ path: /, upstream: [{outer}] }}
  - {{ path: /, listeners: [private], upstream: [{inner}] }}"
    ));
    assert_eq!(crate::support::get(gateway.listener("web"), "/").text(), "outer");
    assert_eq!(crate::support::get(gateway.listener("private"), "/").text(), "inner");
}

/// For any spelling of `/admin`, the request is rejected or reaches the upstream of `/admin`. It never
/// matches one route and reaches a backend as another.
#[test]
fn no_spelling_of_a_path_slips_past_its_route() {
    let (open, guarded) = (Origin::named("open"), Origin::named("guarded"));
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ path: /, upstream: [{open}] }}
  - {{ path: /admin, upstream: [{guarded}] }}"
    ));
    for target in [
        "/admin",
        "/%61dmin",
        "/admin%2f",
        "/admin%2Fx",
        "/admin%5cx",
        "//admin",
        "///admin//x",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x/..\\admin",
        "/admin/..",
        "/admin/.",
        "/%2e/admin",
        "/%",
        "/%zzadmin",
        "/%00admin",
        "/admin%00",
        "%20/admin",
        " /admin",
        "admin",
        "http://localhost/admin",
        "http://localhost//admin",
        "http:/admin",
        "/\\admin",
        "/;/../admin",
    ] {
        open.forget();
        guarded.forget();
        let response = asked(&gateway, "GET", "localhost", target, "");
        if response.status == 400 {
            assert_eq!(open.count() + guarded.count(), 0, "{target:?} is refused and sent on");
            continue;
        }
        assert_eq!(response.status, 200, "{target:?}: {}", response.head);
        assert_eq!(response.text(), "guarded", "{target:?}");
        let sent = guarded.seen()[0].target().to_owned();
        assert_eq!(sent, target.trim_start_matches("http://localhost"), "it is sent on as it came");
    }
    // Other unusual spellings keep their own route.
    assert_eq!(asked(&gateway, "GET", "localhost", "/administrator", "").text(), "open");
    assert_eq!(asked(&gateway, "GET", "localhost", "/x?y=/admin", "").text(), "open");
}
