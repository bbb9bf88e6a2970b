//! The cost of a script per request: `cargo bench -p moongate-luau --bench cost`.
//!
//! Prints nanoseconds per request or message in the best of several rounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use bytes::BytesMut;
use moongate_sdk::testing::{TestExchange, settings};
use moongate_sdk::{Direction, Message, MessageVerdict, Plugin, RequestState, Verdict};
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 7;
const REQUESTS: u32 = 200_000;

fn main() {
    println!("{:<52}{:>12}", "script", "ns");
    for (name, source) in [
        ("request: empty", "function request_headers(req) end"),
        ("request: set a field", "function request_headers(req) req:set_header('x-a', '1') end"),
        (
            "request: read a field and set one",
            "function request_headers(req) local team = req:header('x-team') req:set_header('x-a', team) end",
        ),
        (
            "request: the same, in a script that mentions `call`",
            "function request_headers(req) local team = req:header('x-team') req:set_header('x-a', team) end
             function other() call {} end",
        ),
        (
            "request and response: set a field each",
            "function request_headers(req) req:set_header('x-a', '1') end
             function response_headers(req, res) res:set_header('x-b', '2') end",
        ),
        (
            "request and response: the same, with ctx",
            "function request_headers(req) req:ctx().a = req:path() req:set_header('x-a', '1') end
             function response_headers(req, res) res:set_header('x-b', req:ctx().a) end",
        ),
    ] {
        let plugin = plugin(source);
        let mut visit = TestExchange::new("/a/b").field("x-team", "blue");
        println!("{name:<52}{:>12.0}", best(|| request(&*plugin, &mut visit)));
    }
    for (name, source, length) in [
        ("message of 64 B: empty", "function message(ws, msg) end", 64),
        ("message of 64 B: read", "function message(ws, msg) local d = msg:data() end", 64),
        ("message of 64 B: read and set", "function message(ws, msg) msg:set(msg:data()) end", 64),
        ("message of 4 KiB: read and set", "function message(ws, msg) msg:set(msg:data()) end", 4096),
    ] {
        let plugin = plugin(source);
        let mut visit = TestExchange::new("/socket");
        let payload = BytesMut::from(&vec![b'a'; length][..]);
        let mut message = Message { direction: Direction::ToBackend, binary: false, payload };
        let cost = best(|| assert!(matches!(visit.message(&*plugin, &mut message), MessageVerdict::Forward)));
        println!("{name:<52}{cost:>12.0}");
    }
}

fn plugin(source: &str) -> Box<dyn Plugin> {
    (moongate_luau::KIND.build)(&settings(json!({ "source": source }))).ok().unwrap()
}

fn request(plugin: &dyn Plugin, visit: &mut TestExchange) {
    visit.running = RequestState::default();
    assert!(matches!(black_box(visit.request_headers(plugin)), Verdict::Continue));
    assert!(matches!(black_box(visit.response_headers(plugin)), Verdict::Continue));
}

fn best(mut act: impl FnMut()) -> f64 {
    let mut round = |_| {
        let begun = Instant::now();
        (0..REQUESTS).for_each(|_| act());
        begun.elapsed()
    };
    let least = (0..ROUNDS).map(&mut round).min().unwrap_or(Duration::ZERO);
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}
