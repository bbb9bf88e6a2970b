//! Filters that loop, trap, exhaust memory or send invalid data: each fails only its own request.

use super::{plugin, plugin_with};
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Direction, Message, MessageVerdict, Piece, Plugin, Verdict};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// Runs `what` if the request has a field `x-bad`.
fn fragile(what: &str) -> String {
    format!(
        r#"(data (i32.const 100) "x-bad")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call $get (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 16) (i32.const 20)))
            (then {what}))
          (i32.const 0))"#
    )
}

fn bad() -> TestExchange {
    TestExchange::new("/").field("x-bad", "yes")
}

fn fault(plugin: &dyn Plugin) -> String {
    match bad().request_headers(plugin) {
        Verdict::Failed(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

const TRAPS: [(&str, &str); 5] = [
    ("unreachable", "the filter trapped: wasm trap: wasm `unreachable` instruction executed"),
    ("(drop (i32.load (i32.const -1)))", "the filter trapped: wasm trap: out of bounds memory access"),
    (
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "the filter trapped: wasm trap: integer divide by zero",
    ),
    ("(call $deep)", "the filter trapped: wasm trap: call stack exhausted"),
    (
        "(if (i32.ne (memory.grow (i32.const 10000)) (i32.const -1)) (then (return (i32.const 0)))) unreachable",
        "the filter trapped",
    ),
];

#[test]
fn a_trap_costs_one_request() {
    for (what, expected) in TRAPS {
        let plugin = plugin(&format!("(func $deep (call $deep)) {}", fragile(what)));
        assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
        for _ in 0..3 {
            let reason = fault(&*plugin);
            assert!(reason.starts_with(expected), "{reason}");
            assert!(
                matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue),
                "the next one is served"
            );
        }
    }
}

/// A filter with one callback that traps.
fn trapping(callback: &str, signature: &str, more: serde_json::Value) -> Box<dyn Plugin> {
    plugin_with(&format!(r#"(func (export "proxy_on_{callback}") {signature} unreachable)"#), more)
}

/// The host reports the fault to the chain, where `on_error` decides as for any other plugin.
#[test]
fn a_trap_is_a_fault_in_every_callback_that_decides() {
    const DECIDES: &str = "(param i32 i32 i32) (result i32)";
    let piece = || Piece { bytes: "body".into(), last: true };
    let is_fault = |verdict: &Verdict| matches!(verdict, Verdict::Failed(fault) if fault.to_string().starts_with("the filter trapped"));
    for _ in 0..2 {
        let plugin = trapping("request_headers", DECIDES, json!({}));
        assert!(is_fault(&TestExchange::new("/").request_headers(&*plugin)));
        let plugin = trapping("request_body", DECIDES, json!({}));
        let mut visit = TestExchange::new("/");
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
        assert!(is_fault(&visit.request_body(&*plugin, &mut piece())));
        let plugin = trapping("response_headers", DECIDES, json!({}));
        let mut visit = TestExchange::new("/");
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
        assert!(is_fault(&visit.response_headers(&*plugin)));
        let plugin = trapping("response_body", DECIDES, json!({}));
        let mut visit = TestExchange::new("/");
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
        let _ = visit.response_headers(&*plugin);
        assert!(visit.with_exchange(|exchange| plugin.response_body(exchange, &mut piece())).is_err());
    }
    for (callback, direction) in
        [("downstream_data", Direction::ToBackend), ("upstream_data", Direction::ToClient)]
    {
        let plugin = trapping(callback, DECIDES, json!({ "websocket": true }));
        let mut message = Message { direction, binary: false, payload: "x".into() };
        assert!(
            matches!(TestExchange::new("/").message(&*plugin, &mut message), MessageVerdict::Failed(_)),
            "{callback}"
        );
    }
}

/// A trap after the last decision does not fail the request. Another test covers the pause of the module after it.
#[test]
fn a_trap_at_the_end_of_a_request_does_not_fail_it() {
    for (callback, signature) in
        [("done", "(param i32) (result i32)"), ("log", "(param i32)"), ("delete", "(param i32)")]
    {
        let plugin = plugin(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
            (func (export "proxy_on_{callback}") {signature} unreachable)"#
        ));
        let mut visit = TestExchange::new("/");
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue), "{callback}");
        visit.with_exchange(|exchange| plugin.log(exchange, None));
        drop(visit);
    }
}

#[test]
fn a_loop_ends_after_its_processor_time() {
    let plugin = plugin_with(&fragile("(loop (br 0))"), json!({ "limits": { "cpu": "20ms" } }));
    assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
    let began = Instant::now();
    assert_eq!(fault(&*plugin), "the callback exceeded `limits.cpu`");
    assert!(began.elapsed() >= Duration::from_millis(19), "{:?}", began.elapsed());
    assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
}

#[test]
fn a_request_in_a_dead_instance_fails() {
    let plugin = plugin(&format!(
        "{} (func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32) (i32.const 0))",
        fragile("unreachable")
    ));
    let mut innocent = TestExchange::new("/");
    assert!(matches!(innocent.request_headers(&*plugin), Verdict::Continue));
    fault(&*plugin);
    assert!(
        matches!(innocent.response_headers(&*plugin), Verdict::Failed(_)),
        "its state is lost with the instance"
    );
}

#[test]
fn a_module_that_cannot_serve_is_retried_after_a_pause() {
    let plugin = plugin(&fragile("unreachable"));
    fault(&*plugin);
    assert_eq!(fault(&*plugin), "the module failed and is not retried yet");
    assert_eq!(fault(&*plugin), "the module failed and is not retried yet");
}

#[test]
fn a_pause_without_a_pending_call_is_a_fault() {
    let plugin = plugin(&fragile("(return (i32.const 1))"));
    assert!(fault(&*plugin).starts_with("the filter paused"));
    assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
}

#[test]
fn an_instance_that_leaks_is_replaced_before_it_is_full() {
    // Each request leaks a page; only 16 fit.
    let plugin = plugin_with(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (i32.const 0))"#,
        json!({ "limits": { "memory": "1MiB" } }),
    );
    for _ in 0..1000 {
        assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
    }
}

#[test]
fn with_an_instance_of_its_own_no_request_meets_another() {
    let counts = r#"(global $n (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (if (i32.gt_u (global.get $n) (i32.const 1)) (then unreachable)) (i32.const 0))"#;
    let plugin = plugin_with(counts, json!({ "isolation": "request" }));
    for _ in 0..3000 {
        assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue));
    }
}

/// KiB of anonymous memory of this process.
fn memory() -> i64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_bad_requests_leak_no_memory() {
    for (what, _) in TRAPS {
        let plugin = plugin(&format!("(func $deep (call $deep)) {}", fragile(what)));
        let round = |times| {
            for _ in 0..times {
                // Good requests between them prevent the module's pause.
                assert!(matches!(
                    TestExchange::new("/").request_headers(&*plugin),
                    Verdict::Continue | Verdict::Failed(_)
                ));
                assert!(matches!(bad().request_headers(&*plugin), Verdict::Failed(_)));
            }
        };
        round(200);
        let before = memory();
        round(2000);
        // Other tests run in parallel; one leaked page per bad request would be 8 MiB.
        assert!(memory() - before < 64 << 10, "{what}: {before} KiB became {} KiB", memory());
    }
}
