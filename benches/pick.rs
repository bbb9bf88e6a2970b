//! What one choice of an endpoint costs: `cargo bench --bench pick`.
//!
//! Prints nanoseconds of CPU for a pick and its lease, by kind and number of endpoints, on one thread:
//! the scheduler's count, which other programs on the machine do not disturb much.
#![allow(clippy::print_stdout, reason = "a measure is printed")]

use http::Method;
use moongate::config::{EndpointEntry, KindEntry, Upstream};
use moongate::upstream::{BALANCE, Cluster, RequestView, TriedEndpoints};
use moongate_config::{Place, Placed, Settings, Value, ValueKind};
use moongate_sdk::Request;

const ROUNDS: u32 = 300_000;

fn main() {
    for members in [2, 10, 100] {
        for kind in BALANCE {
            let cluster = Cluster::build("web", &upstream(kind.name, members), &place(), None, None);
            let cost = cluster.map(|cluster| format!("{:.0} ns", measure(&cluster)));
            let cost = cost.unwrap_or_else(|problems| format!("{:?}", problems.0));
            println!("{:>18} {members:>4} endpoints {cost:>8}", kind.name);
        }
    }
}

fn measure(cluster: &Cluster) -> f64 {
    let headers = http::HeaderMap::new();
    let started = cpu();
    for round in 0..ROUNDS {
        let request = RequestView {
            request: Request::internal(&Method::GET, "/", round.to_be_bytes().into()),
            headers: &headers,
        };
        let key = cluster.key(&request);
        let _ = std::hint::black_box(cluster.pick(&key, &TriedEndpoints::new(), std::time::Duration::ZERO));
    }
    cpu().saturating_sub(started) as f64 / f64::from(ROUNDS)
}

/// Nanoseconds that this thread ran, as Linux counts them; 0 elsewhere.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn upstream(kind: &str, members: u8) -> Upstream {
    let endpoint = |n: u8| placed(EndpointEntry::Address(format!("127.0.1.{n}:80")));
    let nothing = Settings::new(Value { place: place(), kind: ValueKind::Map(Vec::new()) });
    Upstream {
        balance: Some(KindEntry { kind: placed(kind.to_owned()), settings: nothing }),
        ..Upstream::of(placed((1..=members).map(endpoint).collect()))
    }
}

fn placed<T>(value: T) -> Placed<T> {
    Placed { value, place: place() }
}

fn place() -> Place {
    Place { file: "bench".into(), line: 1, column: 1, width: 1, path: "".into() }
}
