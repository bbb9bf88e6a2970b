#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::load_text;
use crate::diagnostics::{Color, render};
use proptest::prelude::*;

fn read(text: &str) -> Config {
    let read = load_text("printed.yaml", text, &|_| None);
    read.unwrap_or_else(|refused| {
        panic!("{}\n{text}", render(&refused.problems, &refused.sources, Color::Never))
    })
    .spec
}

#[test]
fn what_is_printed_loads_again_as_the_same() {
    let written = r#"
server: { threads: 2, grace_period: 90s, trusted_proxies: [10.0.0.0/8], client_ipv6_prefix: 56, x_forwarded: keep }
admin: { address: "127.0.0.1:9901", token: "$${x} $$$$ $" }
listeners: [{ address: "[::]:80", max_connections: 10, handshake_rate: 2000/s }, { name: s, address: "unix:/run/x" }]
access_log: combined
log: { level: debug, format: json }
upstreams:
  "1": { endpoints: [a:1, { address: b:2, weight: 0 }], balance: p2c, when_all_unhealthy: fail, slow_start: 90s }
  "$${c ${d $$": { endpoints: [x:1] }
  "a b": { endpoints: [], health_check: { kind: http, path: ~, count: 1.50, zero: 007, list: [1e3, "1e3", off, "", +1] } }
routes:
  - upstream: { "1": 9, "a b": 1 }
    host: ["*.example.com", example.com]
    path: "=/x"
    headers: { x-a: "1", x-b: ~x, x-c: "null", x-d: "1.50", x-e: "a: b #c", x-f: "two\nlines\n" }
  - upstream: [c:1, { address: d:1 }]
    websocket: { handshake_rate: 30/m }
    plugins: [a, { kind: b, name: c, when: "x" }, { kind: d, deep: { e: [{ f: -0.5 }] }, t: "true", u: true }]
"#;
    let spec = read(written);
    let printed = print(&spec);
    assert_eq!(read(&printed), spec, "{printed}");
    assert!(printed.contains("count: 1.50\n") && printed.contains("- 1e3\n"), "{printed}");
    assert!(printed.contains("grace_period: 90s\n"), "{printed}");
}

#[test]
fn defaults_are_written_out_and_what_is_absent_is_not() {
    let printed = print(&Config::default());
    assert!(printed.contains("keepalive_timeout: 75s\n") && printed.contains("max_header_size: 64KiB\n"));
    assert!(!printed.contains("null") && !printed.contains("admin"), "{printed}");
    assert_eq!(read(&printed), Config::default());
}

#[test]
fn the_line_breaks_of_unicode_survive_printing() {
    for text in ["a\u{2028}b", "\u{2028}", "a\u{2029} ", "a\u{2028}'\"b"] {
        let written = format!("routes: [{{ upstream: [h:1], name: {} }}]\n", yaml_quoted(text));
        let spec = load_text("t", &written, &|_| None).unwrap().spec;
        assert_eq!(spec.routes[0].value.name.as_ref().unwrap().value, text);
        assert_eq!(read(&print(&spec)), spec, "{text:?}");
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,6}", "[ -~]{1,12}", "[-+0-9.eEx_]{1,6}", "\\PC{1,6}", Just("$${a}".to_owned())]
}

proptest! {
    #[test]
    fn any_text_survives_printing(key in word(), quoted in word(), plain in "[-+0-9.eEx_]{1,6}|[a-z]{1,5}") {
        let key = format!("k{}", key.replace(['$', '"', '\\'], "").replace(|c: char| !c.is_ascii_graphic(), ""));
        let text = format!(
            "plugins: [{{ kind: x, \"{key}\": {0}, plain: [{plain}, {0}] }}]\nroutes: [{{ upstream: {0}, name: {0}, path: {0} }}]\n",
            yaml_quoted(&quoted),
        );
        let Ok(loaded) = load_text("t", &text, &|_| None) else { return Ok(()) };
        let printed = print(&loaded.spec);
        let again = load_text("t", &printed, &|_| None);
        prop_assert!(again.is_ok(), "{}\n{}", text, printed);
        prop_assert_eq!(again.unwrap().spec, loaded.spec, "{}", printed);
    }
}

/// In single quotes only the quote itself is special.
fn yaml_quoted(text: &str) -> String {
    let text = text.replace('$', "$$").replace('\'', "''");
    format!("'{}'", text.replace(|c: char| c.is_control() || c == '\u{feff}', " "))
}
