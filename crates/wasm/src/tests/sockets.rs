//! WebSocket messages through a stream filter.

use super::plugin_with;
use bytes::BytesMut;
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Direction, Message, MessageVerdict, Phases, Plugin, WebSocketEnd};
use serde_json::json;
use std::time::Duration;

/// Selects by the first byte: `d` is dropped, `c` closes, `r` is replaced, `t` traps, others are forwarded. Binary
/// messages of the backend are dropped.
fn filter() -> Box<dyn Plugin> {
    plugin_with(
        r#"(data (i32.const 100) "ws_close") (data (i32.const 110) "\f0\03not so") (data (i32.const 130) "new")
        (data (i32.const 140) "websocket\00opcode")
        (func $first (param $buffer i32) (result i32)
          (drop (call $buffer (local.get $buffer) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
          (i32.load8_u (i32.load (i32.const 16))))
        (func (export "proxy_on_downstream_data") (param $id i32) (param $n i32) (param $end i32) (result i32)
          (local $c i32)
          (local.set $c (call $first (i32.const 2)))
          (if (i32.eq (local.get $c) (i32.const 100)) (then (return (i32.const 1))))
          (if (i32.eq (local.get $c) (i32.const 99)) (then
            (drop (call $foreign (i32.const 100) (i32.const 8) (i32.const 110) (i32.const 8) (i32.const 16) (i32.const 20)))))
          (if (i32.eq (local.get $c) (i32.const 114)) (then
            (drop (call $set_buffer (i32.const 2) (i32.const 0) (local.get $n) (i32.const 130) (i32.const 3)))))
          (if (i32.eq (local.get $c) (i32.const 116)) (then unreachable))
          (i32.const 0))
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
          (drop (call $property (i32.const 140) (i32.const 16) (i32.const 16) (i32.const 20)))
          (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 98)))"#,
        json!({ "websocket": true }),
    )
}

fn say(visit: &mut TestExchange, plugin: &dyn Plugin, text: &str) -> (MessageVerdict, BytesMut) {
    let mut message = Message { direction: Direction::ToBackend, binary: false, payload: text.into() };
    (visit.message(plugin, &mut message), message.payload)
}

#[test]
fn messages_are_seen_dropped_rewritten_and_end_the_socket() {
    let plugin = filter();
    let expected =
        Phases { messages_to_backend: true, messages_to_client: true, closed: true, ..Phases::default() };
    assert_eq!(plugin.phases(), expected);
    let mut visit = TestExchange::new("/");
    assert!(matches!(say(&mut visit, &*plugin, "hello"), (MessageVerdict::Forward, text) if text == "hello"));
    assert!(matches!(say(&mut visit, &*plugin, "drop"), (MessageVerdict::Drop, _)));
    assert!(matches!(say(&mut visit, &*plugin, "rewrite"), (MessageVerdict::Forward, text) if text == "new"));
    let (verdict, _) = say(&mut visit, &*plugin, "close");
    assert!(matches!(verdict, MessageVerdict::Close { code: 1008, reason } if reason == "not so"));
    for (binary, goes_on) in [(false, true), (true, false)] {
        let mut message = Message { direction: Direction::ToClient, binary, payload: "x".into() };
        assert_eq!(matches!(visit.message(&*plugin, &mut message), MessageVerdict::Forward), goes_on);
    }
    let ended =
        WebSocketEnd { code: 1000, reason: "", lifetime: Duration::ZERO, messages: [0; 2], bytes: [0; 2] };
    visit.with_exchange(|exchange| plugin.closed(exchange, &ended));
}

#[test]
fn a_trap_fails_the_socket() {
    let plugin = filter();
    let mut visit = TestExchange::new("/");
    assert!(matches!(say(&mut visit, &*plugin, "trap"), (MessageVerdict::Failed(_), _)));
}
