//! The process log: its level and format come from the configuration, and a reload changes both.

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::log::field;
use serde_json::Value;
use std::ffi::OsStr;

const ROUTES: &str = "routes: [{ upstream: [127.0.0.1:1] }]\n";

const WEB: &str = "listeners: [{ name: web, address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\n";

fn with_log(log: &str) -> String {
    format!("log: {{ {log} }}\n{ROUTES}")
}

#[test]
fn json_has_one_object_a_line_with_the_fields_as_keys() {
    let gateway = Gateway::spawn(&format!("{WEB}{}", with_log("format: json")));
    let line = gateway.log().wait(0, &["\"listening\",\"name\":\"web\""]);
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["level"], "info", "{line}");
    assert_eq!(read["message"], "listening", "{line}");
    assert_eq!(read["name"], "web", "{line}");
    assert!(read["target"].as_str().unwrap().starts_with("moongate::"), "{line}");
    assert!(read["time"].as_str().unwrap().ends_with('Z'), "{line}");
    for line in gateway.log().text().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn a_reload_changes_level_and_format() {
    let gateway = Gateway::start(ROUTES);
    let reload = |log: &str| {
        gateway.write(&with_log(log));
        let before = gateway.generation();
        gateway.signal("HUP");
        eventually("the reload", || (gateway.generation() > before).then_some(()));
    };
    let mark = gateway.log().mark();
    reload("format: json");
    let line = gateway.log().wait(mark, &["configuration reloaded"]);
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["generation"], 2, "{line}");
    let mark = gateway.log().mark();
    reload("level: error");
    reload("level: info");
    let line = gateway.log().wait(mark, &["configuration reloaded"]);
    assert_eq!(field(&line, "generation"), "4", "no line of the reload to `error` may be logged");
}

#[test]
fn rust_log_has_precedence_over_the_level_and_leaves_the_format() {
    let yaml = format!("{WEB}{}", with_log("level: off, format: text"));
    // It waits for a line at the level info.
    Gateway::start_whole_with("RUST_LOG", OsStr::new("info"), &yaml);
}

#[test]
fn an_empty_rust_log_counts_as_unset() {
    let yaml = format!("{WEB}{}", with_log("level: info"));
    Gateway::start_whole_with("RUST_LOG", OsStr::new(""), &yaml);
}
