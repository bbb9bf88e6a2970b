//! What plugins cost a request on their way through a chain: `cargo bench --bench chain`.
//!
//! Prints nanoseconds a request, in the best of several rounds: for both header phases together, and for
//! a piece of a body each way besides.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use moongate::config::{OnError, PluginEntry};
use moongate::plugin::{Builder, Chain, Instances};
use moongate_config::{Kind, Place, Placed, Settings, Value, ValueKind};
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Exchange, Fault, Flow, Headers, Phases, Piece, Plugin, RequestState, Response};
use std::future::Future;
use std::hint::black_box;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 7;
const REQUESTS: u32 = 500_000;

struct Idle;
struct Both;
struct Bodies;

impl Plugin for Idle {
    fn phases(&self) -> Phases {
        Phases::default()
    }
}

impl Plugin for Both {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: true, ..Phases::default() }
    }
    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        black_box(&exchange.headers);
        Flow::Continue
    }
    fn response_headers<'f>(&'f self, _: &'f mut Exchange<'_>, answer: &'f mut Response<'_>) -> Flow<'f> {
        black_box(&answer.headers);
        Flow::Continue
    }
}

impl Plugin for Bodies {
    fn phases(&self) -> Phases {
        Phases { request_body: true, response_body: true, ..Phases::default() }
    }
    fn request_body<'f>(&'f self, _: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        black_box(piece);
        Flow::Continue
    }
    fn response_body(&self, _: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        black_box(piece);
        Ok(())
    }
}

const KINDS: &[Kind<dyn Plugin>] = &[
    Kind {
        name: "idle",
        about: "Takes part in nothing.",
        schema: |_| true.into(),
        build: |_| Ok(Box::new(Idle)),
    },
    Kind {
        name: "both",
        about: "Does nothing, twice.",
        schema: |_| true.into(),
        build: |_| Ok(Box::new(Both)),
    },
    Kind {
        name: "bodies",
        about: "Looks at a piece each way.",
        schema: |_| true.into(),
        build: |_| Ok(Box::new(Bodies)),
    },
];

fn main() {
    println!("{:<40}{:>12}", "chain", "ns/request");
    for (name, kinds) in [
        ("empty", &[][..]),
        ("one plugin without phases", &["idle"]),
        ("one plugin, two empty phases", &["both"]),
        ("five plugins, two empty phases each", &["both"; 5]),
        ("one plugin, a piece each way", &["bodies"]),
        ("five plugins, a piece each way", &["bodies"; 5]),
    ] {
        println!("{name:<40}{:>12.1}", best(&chain(kinds)));
    }
}

fn chain(kinds: &[&str]) -> Chain {
    let prior = Instances::default();
    let mut builder = Builder::new(KINDS, &prior);
    let place = Place { file: "bench".into(), line: 1, column: 1, width: 1, path: "".into() };
    let entry = |kind: &&str| {
        let settings = Settings::new(Value { place: place.clone(), kind: ValueKind::Map(Vec::new()) });
        let kind = Placed { value: (*kind).to_owned(), place: place.clone() };
        builder
            .entry(
                "bench",
                &PluginEntry {
                    kind,
                    name: None,
                    on_error: OnError::Closed,
                    when: None,
                    owned_headers: Vec::new(),
                    settings,
                },
            )
            .unwrap()
    };
    Chain::build(&kinds.iter().map(entry).collect::<Vec<_>>())
}

fn best(chain: &Chain) -> f64 {
    let mut visit = TestExchange::new("/").field("x-bench", "1");
    let mut answered = HeaderMap::new();
    let round = |_| {
        let begun = Instant::now();
        (0..REQUESTS).for_each(|_| request(chain, &mut visit, &mut answered));
        begun.elapsed()
    };
    let least = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

fn request(chain: &Chain, visit: &mut TestExchange, answered: &mut HeaderMap) {
    visit.running = RequestState::default();
    visit.with_exchange(|exchange| {
        if !chain.skips_request_headers() {
            ready(chain.request_headers(exchange));
        }
        if !chain.skips_response_headers() {
            let headers = Headers::response(answered);
            let mut answer = Response { status: StatusCode::OK, headers, endpoint: None };
            ready(chain.response_headers(exchange, &mut answer, &[]));
        }
        if chain.wants_request_body(0, exchange.running) {
            ready(chain.request_body(0..usize::MAX, exchange, &mut piece()));
        }
        if chain.wants_response_body(exchange.running) {
            assert!(chain.response_body(exchange, &mut piece()).is_ok());
        }
    });
}

fn piece() -> Piece {
    Piece { bytes: Bytes::from_static(b"piece"), last: true }
}

fn ready<F: Future>(phase: F) {
    let ready = std::pin::pin!(phase).poll(&mut Context::from_waker(Waker::noop()));
    assert!(black_box(ready).is_ready());
}
