//! WebAssembly filters through the real gateway: stock SDKs, calls, messages, invalid modules, and reloads
//! under load.

use crate::support::raw::ask;
use crate::support::{Gateway, Load, Origin, Response, Socket};

fn fixture(name: &str) -> String {
    format!("{}/crates/wasm/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A route `web` to `origin` with this module, and an upstream `auth`.
fn yaml(origin: &Origin, auth: &Origin, module: &str, more: &str) -> String {
    format!(
        "upstreams: {{ auth: {{ endpoints: [{auth}] }} }}
routes:
  - name: web
    upstream: [{origin}]
    plugins: [{{ kind: wasm, name: mine, module: '{}' {more} }}]
",
        fixture(module)
    )
}

fn asked(gateway: &Gateway, line: &str, rest: &str) -> Response {
    ask(gateway.web(), format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{rest}"))
}

#[test]
fn stock_filters_guard_and_tag_requests() {
    let origin = Origin::named("answer");
    for module in ["rust-http.wasm", "assemblyscript.wasm", "c.wasm"] {
        let gateway = Gateway::start(&yaml(&origin, &origin, module, ""));
        assert_eq!(asked(&gateway, "GET /", "\r\n").status, 401, "{module}");
        let answer = asked(&gateway, "GET /x", "X-Team: blue\r\n\r\n");
        assert_eq!(answer.status, 200, "{module}");
        assert_eq!(origin.seen().last().unwrap().field("x-seen-team"), Some("blue"), "{module}");
    }
}

#[test]
fn a_stock_filter_changes_a_body_and_counts_for_prometheus() {
    let origin = Origin::named("answer");
    let gateway = Gateway::start(&yaml(&origin, &origin, "rust-http.wasm", ""));
    asked(&gateway, "GET /", "\r\n");
    let answer = asked(&gateway, "POST /x", "X-Team: blue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(answer.status, 200);
    assert_eq!(origin.seen().last().unwrap().body, b"HELLO");
    let shown = crate::support::raw::get(gateway.admin(), "/metrics").text();
    assert!(shown.contains("moongate_wasm_counted_total{"), "{shown}");
}

#[test]
fn a_stock_filter_asks_an_upstream_before_a_request_goes_on() {
    let (origin, auth) = (Origin::named("answer"), Origin::named("yes"));
    let more = ", config: ask=auth, allow: { upstreams: [auth] }";
    let gateway = Gateway::start(&yaml(&origin, &auth, "rust-http.wasm", more));
    assert_eq!(asked(&gateway, "GET /x", "X-Team: blue\r\n\r\n").status, 200);
    assert_eq!(auth.seen().len(), 1);
}

#[test]
fn a_stock_stream_filter_takes_messages_apart() {
    let origin = Origin::named("echo");
    let gateway = Gateway::start(&yaml(&origin, &origin, "rust-messages.wasm", ", websocket: true"));
    let mut socket = Socket::open(gateway.web(), "/");
    socket.say("spam");
    socket.say("a secret");
    let text = String::from_utf8(socket.hear()).unwrap();
    assert!(text.contains("a ******"), "{text}");
    socket.say("bye");
    assert_eq!(socket.end(), Some(4001));
}

#[test]
fn an_invalid_module_is_rejected_and_the_old_one_stays_in_use() {
    let origin = Origin::named("answer");
    let gateway = Gateway::start(&yaml(&origin, &origin, "c.wasm", ""));
    let report = gateway.reload(&yaml(&origin, &origin, "README.md", "")).unwrap_err();
    assert!(report.contains("the module does not compile"), "{report}");
    assert_eq!(asked(&gateway, "GET /", "X-Team: blue\r\n\r\n").status, 200);
}

#[test]
fn reloads_under_load_fail_no_request_and_keep_no_module() {
    let origin = Origin::named("answer");
    let of =
        |n: usize| yaml(&origin, &origin, "../../../conf/plugins/tag.wasm", &format!(", config: 'n{n}'"));
    let gateway = Gateway::start(&of(0));
    let load = Load::start(gateway.web(), "/", 2);
    let round = |from: usize| {
        for n in from..from + 50 {
            gateway.reload(&of(n)).unwrap();
            load.await_more(2);
        }
    };
    round(1);
    let before = gateway.memory();
    round(51);
    assert_eq!(load.stop(), Vec::<String>::new(), "no request failed");
    // A kept instance would keep an engine's memory and code at each reload.
    assert!(gateway.memory() - before < 16 << 10, "{before} KiB became {}", gateway.memory());
}
