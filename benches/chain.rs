//! What plugins cost a request on their way through a chain: `cargo bench --bench chain`.
//!
//! Prints nanoseconds a request for both header phases together, in the best of several rounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use moongate::chain::{Builder, Chain, Instances};
use moongate::spec::PluginEntry;
use moongate_sdk::{
    Answer, Exchange, Flow, Headers, Kind, Phases, Place, Placed, Plugin, Running, Settings, Value, ValueKind,
};
use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 7;
const REQUESTS: u32 = 500_000;
const FIELD: HeaderName = HeaderName::from_static("x-bench");

struct Idle;
struct Both;

impl Plugin for Idle {
    fn phases(&self) -> Phases {
        Phases::default()
    }
}

impl Plugin for Both {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: true, log: false }
    }
    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        black_box(&exchange.headers);
        Flow::Continue
    }
    fn response_headers(&self, _: &mut Exchange<'_>, answer: &mut Answer<'_>) {
        black_box(&answer.headers);
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
];

fn main() {
    println!("{:<40}{:>12}", "chain", "ns/request");
    for (name, kinds) in [
        ("empty", &[][..]),
        ("one plugin without phases", &["idle"]),
        ("one plugin, two empty phases", &["both"]),
        ("five plugins, two empty phases each", &["both"; 5]),
    ] {
        println!("{name:<40}{:>12.1}", best(&chain(kinds)));
    }
}

fn chain(kinds: &[&str]) -> Chain {
    let prior = Instances::default();
    let mut builder = Builder::new(KINDS, &prior);
    let place = Place { file: "bench".into(), line: 1, column: 1, width: 1, path: "".into() };
    let entry = |kind: &&str| {
        let settings = Settings(Value { place: place.clone(), kind: ValueKind::Map(Vec::new()) });
        let kind = Placed { value: (*kind).to_owned(), place: place.clone() };
        builder.entry("bench", &PluginEntry { kind, name: None, settings }).unwrap()
    };
    Chain::build(&kinds.iter().map(entry).collect::<Vec<_>>())
}

fn best(chain: &Chain) -> f64 {
    let (mut fields, mut answered) = (HeaderMap::new(), HeaderMap::new());
    fields.insert(FIELD, HeaderValue::from_static("1"));
    let round = |_| {
        let begun = Instant::now();
        (0..REQUESTS).for_each(|_| request(chain, &mut fields, &mut answered));
        begun.elapsed()
    };
    let least = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

fn request(chain: &Chain, fields: &mut HeaderMap, answered: &mut HeaderMap) {
    let mut running = Running::default();
    let mut exchange = Exchange {
        method: &Method::GET,
        host: "example.com",
        path: "/",
        query: None,
        headers: Headers::new(fields),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        route: "bench",
        running: &mut running,
    };
    if !chain.skips_request_headers() {
        let phase = std::pin::pin!(chain.request_headers(&mut exchange));
        let ready = phase.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(black_box(ready), Poll::Ready(_)));
    }
    if !chain.skips_response_headers() {
        let mut answer = Answer { status: StatusCode::OK, headers: Headers::new(answered) };
        black_box(chain.response_headers(&mut exchange, &mut answer)).unwrap();
    }
}
