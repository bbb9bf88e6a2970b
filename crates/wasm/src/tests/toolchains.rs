//! Filters from real toolchains, unmodified; `fixtures/README.md` describes each.

use super::load;
use http::StatusCode;
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Direction, Message, MessageVerdict, Piece, Plugin, Verdict};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn fixture(name: &str, more: Value) -> Box<dyn Plugin> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    load(&fs::read(path).unwrap(), more).unwrap_or_else(|problems| panic!("{name}: {problems:?}"))
}

#[test]
fn filters_with_and_without_an_sdk_run_unchanged() {
    for name in ["rust-http.wasm", "assemblyscript.wasm", "c.wasm"] {
        for isolation in ["worker", "request"] {
            let plugin = fixture(name, json!({ "config": "blue", "isolation": isolation }));
            for _ in 0..200 {
                let reply = TestExchange::new("/x").expect_reply(&*plugin);
                assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
                let mut visit = TestExchange::new("/x").field("x-team", "blue");
                assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue), "{name}");
                assert_eq!(visit.request["x-seen-team"], "blue", "{name}");
                let verdict = visit.response_headers(&*plugin);
                assert!(matches!(verdict, Verdict::Continue), "{name}: {verdict:?}");
                assert!(!visit.response.is_empty(), "{name}");
                if plugin.phases().log {
                    visit.with_exchange(|exchange| plugin.log(exchange, Some(StatusCode::OK)));
                }
            }
        }
    }
}

#[test]
fn a_stock_filter_writes_bodies() {
    let plugin = fixture("rust-http.wasm", json!({}));
    let mut visit = TestExchange::new("/x").field("x-team", "blue").field("content-length", "5");
    let verdict = visit.request_headers(&*plugin);
    assert!(matches!(verdict, Verdict::Continue | Verdict::Body(_)), "{verdict:?}");
    let mut piece = Piece { bytes: "hello".into(), last: true };
    assert!(matches!(visit.request_body(&*plugin, &mut piece), Verdict::Continue));
    assert_eq!(&*piece.bytes, b"HELLO");
}

#[test]
fn a_stock_stream_filter_sees_rewrites_drops_and_closes() {
    let plugin = fixture("rust-messages.wasm", json!({ "websocket": true }));
    let mut visit = TestExchange::new("/");
    let mut say = |direction, text: &str| {
        let mut message = Message { direction, binary: false, payload: text.into() };
        let decision = visit.message(&*plugin, &mut message);
        (decision, String::from_utf8(message.payload.to_vec()).unwrap())
    };
    assert!(matches!(say(Direction::ToBackend, "hello"), (MessageVerdict::Forward, text) if text == "hello"));
    let (decision, text) = say(Direction::ToBackend, "a secret!");
    assert!(matches!(decision, MessageVerdict::Forward) && !text.contains("secret"), "{decision:?} {text}");
    assert!(matches!(say(Direction::ToBackend, "spam"), (MessageVerdict::Drop, _)));
    assert!(matches!(say(Direction::ToClient, "hidden"), (MessageVerdict::Drop, _)));
    let (decision, _) = say(Direction::ToBackend, "bye");
    assert!(matches!(decision, MessageVerdict::Close { code: 4001, .. }), "{decision:?}");
}

#[test]
fn the_example_in_conf_matches_its_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/plugins");
    let source = fs::read_to_string(folder.join("tag.wat")).unwrap();
    let module = folder.join("tag.wasm");
    assert_eq!(fs::read(module).unwrap(), wat::parse_str(source).unwrap());
}

#[test]
fn the_example_in_conf_tags_responses() {
    let source = include_str!("../../../../conf/plugins/tag.wat");
    let plugin = load(&wat::parse_str(source).unwrap(), json!({ "config": "blue" })).unwrap();
    let mut visit = TestExchange::new("/");
    visit.response_headers(&*plugin);
    assert_eq!(visit.response["x-tag"], "blue");
}
