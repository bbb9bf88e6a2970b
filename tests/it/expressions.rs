//! Expressions through the real gateway: routes, plugins, values and keys.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response};

fn asked(gateway: &Gateway, line: &str, fields: &str) -> Response {
    ask(gateway.web(), format!("{line} HTTP/1.1\r\nHost: A.example\r\nConnection: close\r\n{fields}\r\n"))
}

#[test]
fn a_route_takes_the_requests_for_which_its_expression_holds() {
    let (office, all) = (Origin::named("office"), Origin::named("all"));
    let gateway = Gateway::start(&format!(
        r#"server: {{ trusted_proxies: [127.0.0.1] }}
routes:
  - upstream: [{office}]
    when: 'cidr("10.0.0.0/8").containsIP(request.client_ip) && request.host == "a.example"'
  - upstream: [{all}]"#
    ));
    assert_eq!(asked(&gateway, "GET /", "X-Forwarded-For: 10.1.2.3\r\n").text(), "office");
    assert_eq!(asked(&gateway, "GET /", "X-Forwarded-For: 192.0.2.1\r\n").text(), "all");
}

#[test]
fn a_plugin_takes_part_in_requests_for_which_its_expression_holds() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        r#"
routes:
  - path: /guarded
    upstream: [{origin}]
    plugins: [{{ kind: respond, status: 403, body: no, when: int(request.params.level) < 5 }}]
  - upstream: [{origin}]
    plugins:
      - {{ kind: respond, status: 403, body: no, when: 'request.params.key != "7" && request.path.startsWith("/api/")' }}
      - {{ kind: headers, response: {{ set: {{ X-Good: "{{cel: response.status + 1}}" }} }}, when: response.status == 200 }}
      - {{ kind: headers, request: {{ set: {{ X-Never: "1" }} }}, when: int(request.path) == 1, on_error: open }}"#
    ));
    let refused = asked(&gateway, "GET /api/rooms", "");
    assert_eq!((refused.status, refused.field("x-good")), (403, None));
    let passed = asked(&gateway, "GET /api/rooms?key=7", "");
    assert_eq!((passed.text().as_str(), passed.field("x-good")), ("a", Some("201")));
    assert_eq!(asked(&gateway, "GET /", "").text(), "a");
    for (level, status) in [("7", 200), ("3", 403), ("many", 500)] {
        assert_eq!(asked(&gateway, &format!("GET /guarded?level={level}"), "").status, status, "{level}");
    }
}

#[test]
fn an_evaluation_that_fails_is_counted() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        r#"
routes:
  - {{ path: /numbers/, upstream: [{origin}], when: 'int(request.path.split("/")[2]) > 5' }}"#
    ));
    assert_eq!(asked(&gateway, "GET /numbers/7", "").text(), "a");
    assert_eq!(asked(&gateway, "GET /numbers/3", "").status, 404);
    assert_eq!(asked(&gateway, "GET /numbers/many", "").status, 404);
    assert_eq!(gateway.metrics().sum("moongate_expression_failures_total", &[]), 1.0);
}

#[test]
fn one_key_goes_to_one_endpoint() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let [a, b, c] = &origins;
    let gateway = Gateway::start(&format!(
        r#"
upstreams:
  rooms:
    endpoints: [{a}, {b}, {c}]
    balance: {{ kind: consistent_hash, key: 'cel: request.path.split("/")[2]' }}
routes: [{{ upstream: rooms }}]"#
    ));
    let of = |room: usize, rest: usize| asked(&gateway, &format!("GET /rooms/{room}/{rest}"), "").text();
    // Enough that none of the three is left out by chance.
    for room in 0..60 {
        let first = of(room, 0);
        assert!((1..4).all(|rest| of(room, rest) == first), "room {room}");
    }
    assert!(origins.iter().all(|origin| origin.count() > 0), "rooms are spread");
}
