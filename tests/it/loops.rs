//! Loops: a gateway that sends requests to itself.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, eventually, moongate};

/// A gateway with a listener at a Unix socket, whose address `rest` gets as an endpoint.
fn with_own_socket(rest: impl FnOnce(&str) -> String) -> Gateway {
    Gateway::start_in(tempfile::tempdir().unwrap(), |folder| {
        let own = format!("unix:{}", folder.join("own.sock").display());
        let rest = rest(&own);
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}, {{ name: own, address: '{own}' }}]
{rest}"
        )
    })
}

#[test]
fn a_looping_request_gets_508() {
    let gateway = with_own_socket(|own| format!("routes: [{{ upstream: ['{own}'] }}]"));
    let response = gateway.get("/");
    assert_eq!(response.status, 508, "{}", response.text());
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("moongate_http_requests_failed_total", &[("reason", "loop_detected")]), 1.0);
}

#[test]
fn a_loop_through_other_proxies_is_detected_and_other_names_are_not() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{a}'] }}]"));
    let get = |fields: &str| {
        ask(gateway.web(), format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"))
    };
    assert_eq!(get("").status, 200);
    assert_eq!(a.seen()[0].field("cdn-loop"), None, "nothing was forwarded before");
    a.forget();
    assert_eq!(
        get("X-Forwarded-For: 192.0.2.1\r\nCDN-Loop: other, other, other, other, other, other\r\n").status,
        200
    );
    let own = a.seen()[0].fields("cdn-loop").last().unwrap().to_string();
    assert!(own.starts_with("moongate-"), "{own}");
    // Another proxy joins the values and adds its own.
    for (passes, status) in [(4, 200), (5, 508)] {
        let names = vec![format!("other, {own}"); passes].join(", ");
        assert_eq!(get(&format!("CDN-Loop: {names}\r\n")).status, status, "{passes}");
    }
}

#[test]
fn a_plugin_s_call_that_comes_back_ends_too() {
    let a = Origin::named("a");
    let gateway = with_own_socket(|own| {
        format!(
            "upstreams: {{ own: {{ endpoints: ['{own}'] }} }}
routes:
  - {{ path: /auth, upstream: ['{a}'], plugins: [{{ kind: forward_auth, upstream: own, path: /auth }}] }}
  - {{ path: /mirror, upstream: ['{a}'], plugins: [{{ kind: mirror, upstream: own }}] }}"
        )
    });
    assert_ne!(gateway.get("/auth").status, 200);
    assert_eq!(gateway.get("/mirror").status, 200);
    let ended = [("reason", "loop_detected")];
    eventually("both end", || {
        (gateway.metrics().sum("moongate_http_requests_failed_total", &ended) >= 2.0).then_some(())
    });
    assert!(a.count() <= 6, "{} requests reached the backend", a.count());
}

#[test]
fn check_warns_of_an_endpoint_that_is_a_listener() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "listeners: [{ address: 0.0.0.0:8080 }]\nroutes: [{ upstream: [localhost:8080, 127.0.0.1:8081] }]",
    )
    .unwrap();
    let output = moongate(&["check", "-c", file.path().to_str().unwrap()]);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && report.contains("`localhost:8080` is the listener"), "{report}");
    assert_eq!(report.matches("is the listener").count(), 1, "{report}");
}
