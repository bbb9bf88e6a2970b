//! What one choice of an endpoint costs: `cargo bench --bench pick`.
//!
//! Prints nanoseconds of CPU for a pick and its lease, by kind and number of endpoints, with equal weights and with
//! three different ones, on one thread: the scheduler's count, which other programs on the machine do not disturb
//! much.
#![allow(clippy::print_stdout, reason = "a measure is printed")]

use http::Method;
use moongate::config::{Endpoint, EndpointEntry, KindEntry, Upstream};
use moongate::upstream::{BALANCE, Cluster, RequestView, TriedEndpoints};
use moongate_config::{Place, Placed, Settings, Value, ValueKind};
use moongate_sdk::Request;
use std::time::Duration;

/// The most picks of one measurement.
const ROUNDS: u32 = 3_000_000;
/// Picks between two reads of the CPU time.
const BATCH: u32 = 1000;
/// Nanoseconds of CPU after which a measurement ends. The scheduler counts in ticks of a few milliseconds.
const ENOUGH: u64 = 300_000_000;

fn main() {
    println!("{:>18} {:>10} {:>14} {:>18}", "kind", "endpoints", "equal weights", "different weights");
    for kind in BALANCE {
        for members in [10, 1000, 5000, 10_000] {
            let cost = |weights: u16| {
                let cluster =
                    Cluster::build("web", &upstream(kind.name, members, weights), &place(), None, None);
                let cost = cluster.map(|cluster| format!("{:.0} ns", measure(&cluster)));
                cost.unwrap_or_else(|problems| format!("{:?}", problems.0))
            };
            println!("{:>18} {members:>10} {:>14} {:>18}", kind.name, cost(1), cost(3));
        }
    }
}

fn measure(cluster: &Cluster) -> f64 {
    let headers = http::HeaderMap::new();
    let (started, mut rounds) = (cpu(), 0);
    while rounds < ROUNDS && cpu().saturating_sub(started) < ENOUGH {
        for round in rounds..rounds + BATCH {
            let request = RequestView {
                request: Request::internal(&Method::GET, "/", round.to_be_bytes().into()),
                headers: &headers,
            };
            let key = cluster.key(&request);
            let _ = std::hint::black_box(cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO));
        }
        rounds += BATCH;
    }
    cpu().saturating_sub(started) as f64 / f64::from(rounds)
}

/// Nanoseconds that this thread ran, as Linux counts them; 0 elsewhere.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// An upstream with that many weights in turn, from 1.
fn upstream(kind: &str, members: u16, weights: u16) -> Upstream {
    let endpoint = |n: u16| {
        let [high, low] = n.to_be_bytes();
        placed(EndpointEntry::Full(Endpoint {
            address: placed(format!("127.1.{high}.{low}:80")),
            weight: Some(placed(1 + n % weights)),
            drain: false,
            backup: false,
            max_connections: None,
        }))
    };
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
