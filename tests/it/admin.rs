//! The admin address.

use crate::support::metrics::Metrics;
use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, eventually, get};
use std::collections::BTreeSet;
use std::fs;

fn served(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: [{{ address: '{origin}', weight: 3 }}] }}
routes: [{{ name: front, upstream: all }}]"
    ))
}

fn post(gateway: &Gateway, path: &str, fields: &str) -> Response {
    let host = gateway.admin();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n");
    ask(host, format!("{head}{fields}\r\n"))
}

#[test]
fn the_status_shows_the_current_state() {
    let a = Origin::named("a");
    let gateway = served(&a);
    gateway.names("/", 5);
    let status = gateway.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["generation"], 1);
    assert_eq!(status["draining"], false);
    assert_eq!(status["websockets"], 0);
    assert!(status["uptime_seconds"].is_number(), "{status}");
    assert!(status["requests"].is_number(), "{status}");
    let endpoint = &status["upstreams"]["all"]["endpoints"][0];
    assert_eq!((&endpoint["address"], &endpoint["weight"]), (&a.to_string().into(), &3.into()));
    eventually("nothing is active", || (gateway.active("all", a.address()) == Some(0)).then_some(()));
    let web = status["listeners"].as_array().unwrap().iter().find(|listener| listener["name"] == "web");
    assert_eq!(web.unwrap()["address"], gateway.web().to_string());
}

/// The scrape with that many requests; a response is sent shortly before it is counted.
fn counted(gateway: &Gateway, labels: &[(&str, &str)], requests: f64) -> Metrics {
    eventually("the requests are counted", || {
        let metrics = gateway.metrics();
        (metrics.sum("moongate_http_requests_total", labels) == requests).then_some(metrics)
    })
}

#[test]
fn requests_are_counted_by_route_upstream_and_status() {
    let a = Origin::named("a");
    let gateway = served(&a);
    gateway.names("/", 7);
    let labels = [("route", "front"), ("upstream", "all"), ("status", "200")];
    let metrics = counted(&gateway, &labels, 7.0);
    assert_eq!(metrics.sum("moongate_http_request_duration_seconds_count", &[("route", "front")]), 7.0);
    assert!(metrics.has("moongate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]));
    assert_eq!(metrics.sum("moongate_config_generation", &[]), 1.0);
}

#[test]
fn series_of_a_removed_route_leave_with_it() {
    let a = Origin::named("a");
    let gateway = served(&a);
    gateway.names("/", 3);
    gateway.reload(&format!("routes: [{{ name: other, upstream: ['{a}'] }}]")).unwrap();
    gateway.names("/", 2);
    let metrics = counted(&gateway, &[("route", "other")], 2.0);
    assert!(!metrics.has("moongate_http_requests_total", &[("route", "front")]));
}

#[test]
fn a_reload_by_post_returns_its_outcome() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = served(&a);
    gateway.write(&format!("routes: [{{ upstream: ['{b}'] }}]"));
    let response = post(&gateway, "/api/v1/reload", "");
    assert_eq!(response.status, 200);
    let file = gateway.file();
    assert_eq!(response.json(), serde_json::json!({ "ok": true, "generation": 2, "file": file }));
    assert_eq!(gateway.get("/").text(), "b");

    gateway.write("routes: [{ upstraem: x }]");
    let response = post(&gateway, "/api/v1/reload", "");
    assert_eq!(response.status, 422);
    let json = response.json();
    assert_eq!(json["ok"], false);
    assert!(json["report"].as_str().unwrap().contains("did you mean `upstream`?"), "{json}");
    assert_eq!(gateway.generation(), 2);
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn a_page_in_a_browser_cannot_reload() {
    let a = Origin::named("a");
    let gateway = served(&a);
    for fields in ["Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(post(&gateway, "/api/v1/reload", fields).status, 403, "{fields:?}");
    }
    let rebound = "POST /api/v1/reload HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(gateway.admin(), rebound).status, 403);
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn unknown_paths_are_404() {
    let a = Origin::named("a");
    let gateway = served(&a);
    assert_eq!(get(gateway.admin(), "/healthz").status, 200);
    eventually("it is ready", || (get(gateway.admin(), "/readyz").status == 200).then_some(()));
    assert_eq!(get(gateway.admin(), "/nothing").status, 404);
    let wrong = get(gateway.admin(), "/api/v1/reload");
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("POST")));
    assert_eq!(gateway.get("/api/v1/status").text(), "a", "the admin paths are not on the listeners");
}

#[test]
fn a_token_is_wanted_for_all_but_the_probes() {
    let a = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0, token: 'open sesame' }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: ['{a}'] }}]"
    ));
    let admin = gateway.admin();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/api/v1/status", 401)] {
        assert_eq!(get(admin, path).status, status, "{path}");
    }
    assert_eq!(post(&gateway, "/api/v1/reload", "").status, 401);
    for (token, status) in [("open sesame", 200), ("open sesam", 401), ("", 401), ("open sesame!", 401)] {
        let head = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let response = ask(admin, format!("{head}Authorization: Bearer {token}\r\n\r\n"));
        assert_eq!(response.status, status, "{token:?}");
    }
    assert_eq!(post(&gateway, "/api/v1/reload", "Authorization: Bearer open sesame\r\n").status, 200);
}

#[test]
fn the_access_log_has_a_line_for_every_request() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let gateway = Gateway::start(&format!(
        "access_log: {{ format: json, path: '{}' }}
routes:
  - {{ name: told, upstream: ['{a}'] }}
  - {{ name: quiet, path: /quiet/, access_log: false, upstream: ['{a}'] }}",
        path.display()
    ));
    gateway.names("/quiet/", 3);
    for n in 0..20 {
        gateway.get(&format!("/told/{n}?q=%22"));
    }
    let lines = eventually("all lines are written", || {
        let text = fs::read_to_string(&path).ok()?;
        (text.lines().count() >= 20 && text.ends_with('\n')).then_some(text)
    });
    // A line is written after its response: two threads may swap two lines.
    let mut paths = BTreeSet::new();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let told = (&line["method"], &line["status"], &line["route"], &line["client"]);
        assert_eq!(told, (&"GET".into(), &200.into(), &"told".into(), &"127.0.0.1".into()));
        assert_eq!(line["endpoint"], a.to_string());
        paths.insert(line["path"].as_str().unwrap().to_owned());
    }
    assert_eq!(paths, (0..20).map(|n| format!("/told/{n}?q=%22")).collect());
    assert_eq!(lines.lines().count(), 20, "a route may keep quiet");
}
