//! Tests of chains with open WebSockets, with plugins written for them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
use super::*;
use crate::config::{OnError, PluginEntry};
use crate::plugin::tests::{entry, sendable};
use crate::plugin::{Builder, Instances};
use moongate_config::Kind;
use moongate_sdk::testing::{TestExchange, wait};
use moongate_sdk::{Flow, Phases, Plugin, Reply};

/// Appends its letter to messages, and acts on certain words.
struct Echo(u8);

impl Plugin for Echo {
    fn phases(&self) -> Phases {
        Phases {
            messages_to_backend: true,
            messages_to_client: self.0 == b'a',
            recheck: (self.0 == b'b').then_some(Duration::from_secs(60)),
            closed: true,
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        match exchange.path() {
            "/refuse" => Reply::new(StatusCode::UNAUTHORIZED).into(),
            "/fail" => Fault::fixed("as the test wants").into(),
            "/panic" => panic!("as the test wants"),
            "/body" => Flow::Body(1),
            "/wait" => Flow::wait(async { Reply::new(StatusCode::FORBIDDEN).into() }),
            _ => Flow::Continue,
        }
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        *exchange.state::<u32>() += 1;
        let word = message.payload.clone();
        message.payload.extend_from_slice(&[self.0]);
        match &word[..] {
            b"drop" => MessageVerdict::Drop,
            b"close" => MessageVerdict::Close { code: 4000, reason: "word".into() },
            b"1005" => MessageVerdict::Close { code: 1005, reason: "".into() },
            b"1014" => MessageVerdict::Close { code: 1014, reason: "".into() },
            b"fail" => MessageVerdict::Failed(Fault::fixed("as the test wants")),
            b"panic" => panic!("as the test wants"),
            _ => MessageVerdict::Forward,
        }
    }

    fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        assert!(self.0 != b'a' || ended.code != 1006, "as the test wants");
        let seen = *exchange.state::<u32>();
        exchange.note("saw", format!("{seen} {}", ended.code));
    }
}

const KINDS: &[Kind<dyn Plugin>] = &[
    Kind { name: "a", about: "", schema: |_| true.into(), build: |_| Ok(Box::new(Echo(b'a'))) },
    Kind { name: "b", about: "", schema: |_| true.into(), build: |_| Ok(Box::new(Echo(b'b'))) },
];

fn echoes() -> Chain {
    echoes_with(OnError::Closed)
}

fn echoes_with(on_error: OnError) -> Chain {
    let none = Instances::default();
    let mut builder = Builder::new(KINDS, &none);
    let written = ["a", "b"].map(|kind| PluginEntry { on_error, ..entry(kind, "", "", 1) });
    Chain::build(&written.map(|written| builder.entry("r", &written).unwrap()))
}

fn say(visit: &mut TestExchange, direction: Direction, word: &str) -> (ChainVerdict, String) {
    let mut message = Message { direction, binary: false, payload: word.as_bytes().into() };
    let passage = visit.with_exchange(|exchange| echoes().message(exchange, &mut message));
    (passage, String::from_utf8(message.payload.to_vec()).unwrap())
}

#[test]
fn messages_pass_the_plugins_of_their_way_in_order() {
    let mut visit = TestExchange::new("/");
    assert_eq!(say(&mut visit, Direction::ToBackend, "x"), (ChainVerdict::Forward, "xab".into()));
    assert_eq!(say(&mut visit, Direction::ToClient, "x"), (ChainVerdict::Forward, "xa".into()));
    assert_eq!(say(&mut visit, Direction::ToBackend, "drop"), (ChainVerdict::Drop, "dropa".into()));
    let close = ChainVerdict::Close { code: 4000, reason: "word".into() };
    assert_eq!(say(&mut visit, Direction::ToBackend, "close").0, close);
    visit.running.skip(0);
    assert_eq!(say(&mut visit, Direction::ToBackend, "x"), (ChainVerdict::Forward, "xb".into()));
}

#[test]
fn a_plugin_that_fails_lets_nothing_pass() {
    for word in ["fail", "panic", "1005", "1014"] {
        assert_eq!(
            say(&mut TestExchange::new("/"), Direction::ToBackend, word).0,
            ChainVerdict::Failed,
            "{word}"
        );
    }
}

#[test]
fn one_that_is_not_needed_is_not_there_for_that_message_alone() {
    let chain = echoes_with(OnError::Open);
    let mut visit = TestExchange::new("/fail");
    for (word, expected) in [("fail", "fail"), ("panic", "panic"), ("1005", "1005"), ("x", "xab")] {
        let mut message =
            Message { direction: Direction::ToBackend, binary: false, payload: word.as_bytes().into() };
        let passage = visit.with_exchange(|exchange| chain.message(exchange, &mut message));
        assert_eq!((passage, &message.payload[..]), (ChainVerdict::Forward, expected.as_bytes()));
    }
    assert_eq!(visit.with_exchange(|exchange| wait(chain.recheck(1, exchange))), RecheckVerdict::Granted);
}

#[test]
fn all_plugins_get_the_end_with_their_state() {
    for (code, expected) in [(1000, vec!["1 1000", "0 1000"]), (1006, vec!["0 1006"])] {
        let mut visit = TestExchange::new("/");
        say(&mut visit, Direction::ToClient, "x");
        let ended =
            WebSocketEnd { code, reason: "close", lifetime: Duration::ZERO, messages: [0; 2], bytes: [0; 2] };
        visit.with_exchange(|exchange| echoes().closed(exchange, &ended));
        let values: Vec<_> = visit.running.notes().iter().map(|note| note.value.as_str()).collect();
        assert_eq!(values, expected, "a panic affects no other plugin");
    }
}

#[test]
fn a_recheck_returns_the_current_verdict() {
    assert_eq!(echoes().rechecks().collect::<Vec<_>>(), [(1, Duration::from_secs(60))]);
    for (path, expected) in [
        ("/", RecheckVerdict::Granted),
        ("/refuse", RecheckVerdict::Refused(StatusCode::UNAUTHORIZED)),
        ("/wait", RecheckVerdict::Refused(StatusCode::FORBIDDEN)),
        ("/fail", RecheckVerdict::Failed),
        ("/panic", RecheckVerdict::Failed),
        ("/body", RecheckVerdict::Failed),
    ] {
        let chain = echoes();
        let mut visit = TestExchange::new(path);
        assert_eq!(
            visit.with_exchange(|exchange| wait(sendable(chain.recheck(1, exchange)))),
            expected,
            "{path}"
        );
        visit.running.skip(1);
        let skipped = visit.with_exchange(|exchange| wait(chain.recheck(1, exchange)));
        assert_eq!(skipped, RecheckVerdict::Granted, "one that is left out is not asked");
    }
}
