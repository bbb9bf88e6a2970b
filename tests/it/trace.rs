//! TRACE, and `Max-Forwards: 0` (RFC 9110 §7.6.2, §9.3.8): rejected unless a route lists the method, and
//! answered after access rules.

use crate::support::frames::{Frames, HEADERS, request};
use crate::support::h2::{self, Client};
use crate::support::raw::ask;
use crate::support::{Gateway, Origin};

fn gateway(rest: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n{rest}"
    ))
}

/// The status and the field Allow in each version.
fn in_every_version(gateway: &Gateway, method: &str, fields: &[(&str, &str)]) -> Vec<(u16, Option<String>)> {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut found: Vec<_> = ["1.0", "1.1"]
        .iter()
        .map(|version| {
            let head = format!("{method} /x HTTP/{version}\r\nHost: a\r\nConnection: close\r\n{lines}\r\n");
            let response = ask(gateway.web(), head);
            (response.status, response.field("allow").map(str::to_owned))
        })
        .collect();
    let mut request = h2::request(method, "/x");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = Client::connect(gateway.web()).ask(request.body(()).unwrap(), &[]);
    found.push((response.status.as_u16(), response.field("allow").map(str::to_owned)));
    found
}

#[test]
fn trace_is_refused_unless_a_route_names_it() {
    let origin = Origin::named("a");
    let refusing = gateway(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for fields in [&[][..], &[("max-forwards", "0")], &[("max-forwards", "5")], &[("content-length", "0")]] {
        for (status, allow) in in_every_version(&refusing, "TRACE", fields) {
            assert_eq!(status, 405, "{fields:?}");
            let allow = allow.unwrap();
            assert!(allow.contains("GET") && !allow.contains("TRACE"), "{allow}");
        }
    }
    assert_eq!(origin.count(), 0);
    let tracing = gateway(&format!(
        "routes: [{{ methods: [TRACE, GET], upstream: ['{origin}'] }}, {{ path: /y, upstream: ['{origin}'] }}]"
    ));
    for (status, _) in in_every_version(&tracing, "TRACE", &[]) {
        assert_eq!(status, 200);
    }
    assert_eq!(origin.count(), 3);
    for (status, _) in in_every_version(&tracing, "TRACE", &[("max-forwards", "0")]) {
        assert_eq!(status, 204);
    }
    assert_eq!(origin.count(), 3, "what ends here went no further");
}

#[test]
fn a_trace_with_content_is_malformed() {
    let origin = Origin::named("a");
    let gateway = gateway(&format!("routes: [{{ methods: [TRACE], upstream: ['{origin}'] }}]"));
    for (version, framing) in [
        ("1.1", "Content-Length: 4\r\n\r\nbody"),
        ("1.0", "Content-Length: 4\r\n\r\nbody"),
        ("1.1", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        let response = ask(gateway.web(), format!("TRACE / HTTP/{version}\r\nHost: a\r\n{framing}"));
        assert_eq!(response.status, 400, "{version} {framing}");
        assert_eq!(response.field("connection"), Some("close"), "{version} {framing}");
    }
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("TRACE", "/", &[]), false);
    assert_eq!(client.next_on(HEADERS, 1).status(), 400);
    client.head(3, &request("TRACE", "/", &[("content-length", "4")]), false);
    assert_eq!(client.next_on(HEADERS, 3).status(), 400);
    assert!(client.lives());
    assert_eq!(origin.count(), 0);
}

#[test]
fn access_rules_come_before_a_response_to_max_forwards() {
    let origin = Origin::named("a");
    for rule in [
        "{ kind: ip_access, deny: [127.0.0.0/8] }",
        "{ kind: respond, status: 403, body: no }",
        "{ kind: respond, status: 403, body: no, when: 'request.method in [\"OPTIONS\", \"TRACE\"]' }",
    ] {
        let gateway = gateway(&format!(
            "routes: [{{ methods: [OPTIONS, TRACE, GET], upstream: ['{origin}'], plugins: [{rule}] }}]"
        ));
        for method in ["OPTIONS", "TRACE"] {
            for left in ["0", "00", "1"] {
                for (status, _) in in_every_version(&gateway, method, &[("max-forwards", left)]) {
                    assert_eq!(status, 403, "{rule} {method} {left}");
                }
            }
        }
    }
    let open = gateway(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for (status, _) in in_every_version(&open, "OPTIONS", &[("max-forwards", "0")]) {
        assert_eq!(status, 204);
    }
    // Nominating the field does not remove it.
    let nominated =
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close, max-forwards\r\n\r\n";
    assert_eq!(ask(open.web(), nominated).status, 204);
    assert_eq!(origin.count(), 0);
    // For other methods it has no meaning.
    for (status, _) in in_every_version(&open, "GET", &[("max-forwards", "0")]) {
        assert_eq!(status, 200);
    }
}
