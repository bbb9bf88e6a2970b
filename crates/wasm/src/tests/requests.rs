//! A filter's view of a request, and its changes.

use super::{plugin, plugin_with};
use http::{HeaderMap, StatusCode};
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Piece, Plugin, Verdict};
use serde_json::json;

/// Sets `x-seen` to the value of a header, a pseudo-header among them, or of a property.
fn echo(how: &str) -> Box<dyn Plugin> {
    plugin(&format!(
        r#"(data (i32.const 100) "x-seen") (data (i32.const 200) "{how}\00")
        (func $property_of (result i32)
          (call $property (i32.const 200) (i32.const {length}) (i32.const 16) (i32.const 20)))
        (func $header_of (result i32)
          (call $get (i32.const 0) (i32.const 200) (i32.const {length}) (i32.const 16) (i32.const 20)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call ${which}_of)) (then (drop (call $set (i32.const 0) (i32.const 100) (i32.const 6)
              (i32.load (i32.const 16)) (i32.load (i32.const 20))))))
          (i32.const 0))"#,
        length = how.replace("\\00", ".").len(),
        which = if how.contains("\\00") { "property" } else { "header" },
    ))
}

fn seen(how: &str) -> Option<String> {
    let mut visit = TestExchange::new("/a/b?c=d").field("host", "example.com:8080").field("user-agent", "me");
    assert!(matches!(visit.request_headers(&*echo(how)), Verdict::Continue));
    visit.request.get("x-seen").map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn pseudo_headers_headers_and_properties_are_read() {
    for (how, expected) in [
        (":method", "GET"),
        (":path", "/a/b?c=d"),
        (":authority", "example.com:8080"),
        (":scheme", "http"),
        ("host", "example.com:8080"),
        ("User-Agent", "me"),
        ("request\\00path", "/a/b?c=d"),
        ("request\\00url_path", "/a/b"),
        ("request\\00query", "c=d"),
        ("request\\00protocol", "HTTP/1.1"),
        ("request\\00headers\\00user-agent", "me"),
        ("source\\00address", "127.0.0.1"),
        ("route_name\\00", "web"),
        ("plugin_name\\00", "test"),
    ] {
        assert_eq!(seen(how).as_deref(), Some(expected), "{how}");
    }
    for how in ["x-nobody", ":status", "a b", "request\\00headers\\00x", "response\\00code", "nobody\\00"] {
        assert_eq!(seen(how), None, "{how}");
    }
}

/// One call in a phase; its status plus 48 is in the response's `x-status`.
fn status_of(phase: &str, call: &str) -> TestExchange {
    let plugin = plugin(&format!(
        r#"(global $status (mut i32) (i32.const 63))
        (data (i32.const 100) "x-status") (data (i32.const 200) ":path") (data (i32.const 210) "/new?x=1")
        (data (i32.const 220) ":method") (data (i32.const 230) "POST") (data (i32.const 240) "connection")
        (data (i32.const 260) "x-a") (data (i32.const 270) "one") (data (i32.const 280) ":status") (data (i32.const 290) "418")
        (data (i32.const 300) "a\0d\0ab")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {request} (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          {response}
          (i32.store8 (i32.const 120) (i32.add (i32.const 48) (global.get $status)))
          (drop (call $set (i32.const 2) (i32.const 100) (i32.const 8) (i32.const 120) (i32.const 1)))
          (i32.const 0))"#,
        request = if phase == "request" { format!("(global.set $status {call})") } else { String::new() },
        response = if phase == "response" { format!("(global.set $status {call})") } else { String::new() },
    ));
    let mut visit = TestExchange::new("/").field("x-a", "old").field("connection", "keep-alive");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    assert!(matches!(visit.response_headers(&*plugin), Verdict::Continue));
    visit
}

fn status(phase: &str, call: &str) -> i32 {
    i32::from(status_of(phase, call).response["x-status"].as_bytes()[0]) - 48
}

#[test]
fn headers_are_set_added_and_removed() {
    let one = "(i32.const 260) (i32.const 3) (i32.const 270) (i32.const 3)";
    let all = |visit: &TestExchange| -> Vec<_> {
        visit.request.get_all("x-a").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all(&status_of("request", &format!("(call $set (i32.const 0) {one})"))), ["one"]);
    assert_eq!(all(&status_of("request", &format!("(call $add (i32.const 0) {one})"))), ["old", "one"]);
    let removed = status_of("request", "(call $remove (i32.const 0) (i32.const 260) (i32.const 3))");
    assert!(all(&removed).is_empty());
    let mut visit = status_of(
        "request",
        "(call $set (i32.const 0) (i32.const 200) (i32.const 5) (i32.const 210) (i32.const 8))",
    );
    visit.with_exchange(|exchange| assert_eq!((exchange.path(), exchange.query()), ("/new", Some("x=1"))));
    let mut visit = status_of(
        "request",
        "(call $set (i32.const 0) (i32.const 220) (i32.const 7) (i32.const 230) (i32.const 4))",
    );
    visit.with_exchange(|exchange| assert_eq!(exchange.method(), "POST"));
    let visit = status_of(
        "response",
        "(call $set (i32.const 2) (i32.const 280) (i32.const 7) (i32.const 290) (i32.const 3))",
    );
    assert_eq!(visit.status, StatusCode::IM_A_TEAPOT);
}

#[test]
fn the_gateways_own_fields_stay_as_they_are() {
    let visit = status_of("request", "(call $remove (i32.const 0) (i32.const 240) (i32.const 10))");
    assert_eq!(
        (&visit.request["connection"], &visit.response["x-status"]),
        (&"keep-alive".parse().unwrap(), &"0".parse().unwrap())
    );
}

#[test]
fn invalid_calls_get_a_status_and_affect_no_other_request() {
    let path = "(i32.const 200) (i32.const 5)";
    for (phase, call, expected) in [
        // Not available yet, or no longer.
        ("request", format!("(call $get (i32.const 2) {path} (i32.const 16) (i32.const 20))"), 2),
        ("response", format!("(call $set (i32.const 0) {path} (i32.const 210) (i32.const 8))"), 2),
        ("request", "(call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))".into(), 2),
        ("request", "(call $buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20))".into(), 1),
        // Unknown map, context, function, upstream.
        ("request", "(call $pairs (i32.const 99) (i32.const 16) (i32.const 20))".into(), 2),
        ("request", "(call $effective (i32.const 77))".into(), 2),
        ("request", format!("(call $foreign {path} (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 20))"), 1),
        ("request", "(call $queue (i32.const 0) (i32.const 0) (i32.const 16))".into(), 12),
        ("request", "(call $respond (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))".into(), 2),
        ("request", "(call $respond (i32.const 101) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))".into(), 2),
        // Pointers outside of memory.
        ("request", "(call $get (i32.const 0) (i32.const -4) (i32.const 5) (i32.const 16) (i32.const 20))".into(), 6),
        ("request", "(call $get (i32.const 0) (i32.const 200) (i32.const -1) (i32.const 16) (i32.const 20))".into(), 6),
        ("request", format!("(call $get (i32.const 0) {path} (i32.const 131070) (i32.const 20))"), 6),
        ("request", format!("(call $get (i32.const 0) {path} (i32.const -1) (i32.const -1))"), 6),
        ("request", "(call $log (i32.const 2) (i32.const 131072) (i32.const 1))".into(), 6),
        ("request", "(call $set_pairs (i32.const 0) (i32.const 131071) (i32.const 2))".into(), 6),
        // Malformed maps, names and values.
        ("request", "(call $set_pairs (i32.const 0) (i32.const 200) (i32.const 5))".into(), 4),
        ("request", format!("(call $set (i32.const 0) {path} (i32.const 260) (i32.const 3))"), 2),
        ("request", "(call $set (i32.const 0) (i32.const 300) (i32.const 4) (i32.const 260) (i32.const 3))".into(), 2),
        ("request", "(call $set (i32.const 0) (i32.const 260) (i32.const 3) (i32.const 300) (i32.const 4))".into(), 2),
    ] {
        assert_eq!(status(phase, &call), expected, "{phase} {call}");
    }
}

#[test]
fn all_headers_at_once_can_be_read_and_written_back() {
    let plugin = plugin(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $pairs (i32.const 0) (i32.const 16) (i32.const 20)))
          (drop (call $map_size (i32.const 0) (i32.const 24)))
          (if (i32.ne (i32.load (i32.const 20)) (i32.load (i32.const 24))) (then unreachable))
          (if (call $set_pairs (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))) (then unreachable))
          (i32.const 0))"#,
    );
    let fields = [("host", "a"), ("x-a", "one"), ("x-a", "two"), ("x-b", ""), ("content-length", "0")];
    let mut visit =
        fields.iter().fold(TestExchange::new("/x"), |visit, (name, value)| visit.field(name, value));
    let before = visit.request.clone();
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    assert_eq!(visit.request, before);
}

const DENY: &str = r#"(data (i32.const 100) "no") (data (i32.const 110) "why")
    (data (i32.const 200) "\01\00\00\00\03\00\00\00\01\00\00\00x-y\00z\00")
    (func $deny (drop (call $respond (i32.const 403) (i32.const 110) (i32.const 3) (i32.const 100) (i32.const 2)
      (i32.const 200) (i32.const 18) (i32.const -1))))"#;

#[test]
fn a_filter_responds() {
    for phase in ["request", "response"] {
        let plugin = plugin(&format!(
            r#"{DENY} (func (export "proxy_on_{phase}_headers") (param i32 i32 i32) (result i32) (call $deny) (i32.const 1))"#
        ));
        let mut visit = TestExchange::new("/");
        let verdict = if phase == "request" {
            visit.request_headers(&*plugin)
        } else {
            visit.response_headers(&*plugin)
        };
        let Verdict::Respond(reply) = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (reply.status.as_u16(), &*reply.body, &reply.headers["x-y"]),
            (403, &b"no"[..], &"z".parse().unwrap())
        );
        assert_eq!(
            (&*visit.running.notes()[0].key, visit.running.notes()[0].value.as_str()),
            ("details", "why")
        );
    }
}

/// Requests the whole body; appends `!`, and sets `x-length` of the head to its length.
const BODY: &str = r#"(data (i32.const 100) "!") (data (i32.const 110) "x-length")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.eqz (local.get 2)))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
      (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
      (drop (call $set_buffer (i32.const 0) (local.get 1) (i32.const 0) (i32.const 100) (i32.const 1)))
      (i32.store8 (i32.const 120) (i32.add (i32.const 48) (local.get 1)))
      (drop (call $set (i32.const 0) (i32.const 110) (i32.const 8) (i32.const 120) (i32.const 1)))
      (i32.const 0))"#;

#[test]
fn a_pause_at_the_head_asks_for_the_whole_body_and_the_head_may_still_change() {
    let plugin = plugin_with(BODY, json!({ "limits": { "body": "10KiB" } }));
    let mut visit = TestExchange::new("/").field("content-length", "5");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Body(10_240)));
    let mut piece = Piece { bytes: "hello".into(), last: true };
    assert!(matches!(visit.request_body(&*plugin, &mut piece), Verdict::Continue));
    assert_eq!((&*piece.bytes, &visit.request["x-length"]), (&b"hello!"[..], &"5".parse().unwrap()));
    assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue), "without a body");
}

#[test]
fn pieces_are_held_back_up_to_the_limit() {
    let plugin = plugin_with(BODY, json!({ "limits": { "body": "8" } }));
    let mut visit = TestExchange::new("/");
    let mut send = |text: &'static str, last| {
        let mut piece = Piece { bytes: text.into(), last };
        let verdict = visit.request_body(&*plugin, &mut piece);
        (verdict, piece.bytes)
    };
    assert!(matches!(send("abc", false), (Verdict::Continue, held) if held.is_empty()));
    assert!(matches!(send("def", true), (Verdict::Continue, bytes) if bytes == "abcdef!"));
    assert!(matches!(send("abcdefghi", false), (Verdict::Respond(reply), _) if reply.status == 413));
}

#[test]
fn the_response_body_is_replaced_and_its_head_remembered() {
    let plugin = plugin(
        r#"(data (i32.const 100) "x-b") (data (i32.const 110) ":status")
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
          (if (call $get (i32.const 2) (i32.const 110) (i32.const 7) (i32.const 16) (i32.const 20)) (then unreachable))
          (if (call $get (i32.const 2) (i32.const 100) (i32.const 3) (i32.const 16) (i32.const 20)) (then unreachable))
          (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get 1)
            (i32.load (i32.const 16)) (i32.load (i32.const 20))))
          (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))"#,
    );
    let mut visit = TestExchange::new("/");
    visit.response = HeaderMap::from_iter([("x-b".parse().unwrap(), "instead".parse().unwrap())]);
    assert!(matches!(visit.response_headers(&*plugin), Verdict::Continue));
    let mut piece = Piece { bytes: "body".into(), last: true };
    visit.with_exchange(|exchange| plugin.response_body(exchange, &mut piece)).unwrap();
    assert_eq!(&*piece.bytes, b"instead");
}

#[test]
fn the_end_of_a_stream_is_reported_once_in_order() {
    // Counts done, log and delete in one number; the next request shows it.
    let plugin = plugin(
        r#"(global $n (mut i32) (i32.const 0)) (data (i32.const 100) "x-n")
        (func $digit (param i32) (global.set $n (i32.add (i32.mul (global.get $n) (i32.const 4)) (local.get 0))))
        (func (export "proxy_on_done") (param i32) (result i32) (call $digit (i32.const 1)) (i32.const 1))
        (func (export "proxy_on_log") (param i32) (call $digit (i32.const 2)))
        (func (export "proxy_on_delete") (param i32) (call $digit (i32.const 3)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (i32.store8 (i32.const 120) (i32.add (i32.const 33) (global.get $n)))
          (drop (call $set (i32.const 0) (i32.const 100) (i32.const 3) (i32.const 120) (i32.const 1)))
          (global.set $n (i32.const 0)) (i32.const 0))"#,
    );
    let mut first = TestExchange::new("/");
    first.request_headers(&*plugin);
    first.with_exchange(|exchange| plugin.log(exchange, Some(StatusCode::OK)));
    drop(first);
    let mut second = TestExchange::new("/");
    second.request_headers(&*plugin);
    assert_eq!(second.request["x-n"].as_bytes()[0] - 33, 0b01_10_11);
    drop(second);
    let mut third = TestExchange::new("/");
    third.request_headers(&*plugin);
    assert_eq!(third.request["x-n"].as_bytes()[0] - 33, 0b01_10_11, "also for a cancelled request");
}
