//! Routes without an upstream: a plugin responds to all of their requests.

use crate::support::{Gateway, Response, eventually, moongate};
use serde_json::Value;

const ROUTES: &str = r#"
routes:
  - { name: robots, path: =/robots.txt, plugins: [{ kind: respond, body: none }] }
  - { name: moved, path: /old, plugins: [{ kind: redirect, to: "https://new.example{path}" }] }
  - { name: closed, path: /closed, plugins: [request_id, maintenance] }
"#;

fn error(response: &Response) -> String {
    response.text().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn plugins_that_always_respond_need_no_upstream() {
    let gateway = Gateway::start(ROUTES);
    let response = gateway.get("/robots.txt");
    assert_eq!((response.status, response.text().as_str()), (200, "none"));
    let response = gateway.get("/old/a");
    assert_eq!(response.status, 302, "{}", response.head);
    assert!(response.head.contains("https://new.example/old/a"), "{}", response.head);
    assert_eq!(gateway.get("/closed").status, 503);
    assert_eq!(gateway.status()["upstreams"], Value::Object(serde_json::Map::new()));
    let requests =
        || gateway.metrics().sum("moongate_http_requests_total", &[("route", "robots"), ("status", "200")]);
    // A request is counted after its response has been sent.
    eventually("the request is counted", || (requests() >= 1.0).then_some(()));
}

#[test]
fn a_plugin_of_the_file_serves_every_route() {
    let gateway = Gateway::start("plugins: [{ kind: respond, status: 404 }]\nroutes: [{ path: /a }]\n");
    assert_eq!(gateway.get("/a").status, 404);
}

#[test]
fn a_request_that_gets_past_a_failed_plugin_is_503() {
    let gateway = Gateway::start_own(
        "routes: [{ plugins: [{ kind: chaos, phase: request_headers, act: fail, on_error: open }] }]\n",
    );
    let response = gateway.get("/");
    assert_eq!(response.status, 503);
    assert!(error(&response).contains("no_endpoint"), "{}", response.text());
    let mut wire = gateway.wire();
    wire.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let handshake = wire.response();
    assert_eq!(handshake.status, 503, "{}", handshake.head);
}

#[test]
fn check_prints_and_explains_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    std::fs::write(&file, ROUTES).unwrap();
    let file = file.to_str().unwrap();
    let text = |arguments: &[&str]| {
        let output = moongate(&[&["check", "-c", file], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&[]).contains("3 routes, 0 upstreams"));
    let printed = text(&["--print"]);
    assert!(printed.contains("name: robots") && !printed.contains("upstream:"), "{printed}");
    assert!(text(&["--explain", "GET", "http://a/robots.txt"]).contains("robots"));
}
