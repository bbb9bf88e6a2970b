//! The choice of an endpoint allocates nothing, however many there are. A test program of its own, because it counts the
//! allocations of its allocator.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use http::{HeaderMap, Method};
use moongate::config::{Endpoint, EndpointEntry, KindEntry, Upstream};
use moongate::upstream::{BALANCE, Cluster, Order, RequestView, TriedEndpoints};
use moongate_config::{Place, Placed, Settings, Value, ValueKind};
use moongate_sdk::Request;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

fn place() -> Place {
    Place { file: "test".into(), line: 1, column: 1, width: 1, path: "".into() }
}

fn placed<T>(value: T) -> Placed<T> {
    Placed { value, place: place() }
}

/// That many endpoints with three weights in turn, and a limit that is not reached.
fn cluster(kind: &str, members: u16) -> Arc<Cluster> {
    let endpoint = |n: u16| {
        let [high, low] = n.to_be_bytes();
        placed(EndpointEntry::Full(Endpoint {
            address: placed(format!("127.1.{high}.{low}:80")),
            weight: Some(placed(1 + n % 3)),
            drain: false,
            backup: false,
            max_connections: NonZeroU32::new(1000),
        }))
    };
    let nothing = Settings::new(Value { place: place(), kind: ValueKind::Map(Vec::new()) });
    let spec = Upstream {
        balance: Some(KindEntry { kind: placed(kind.to_owned()), settings: nothing }),
        ..Upstream::of(placed((1..=members).map(endpoint).collect()))
    };
    Cluster::build("web", &spec, &place(), None, None).unwrap()
}

/// Sends that many requests, each with a retry.
fn send(cluster: &Cluster, requests: u32) {
    let headers = HeaderMap::new();
    for n in 0..requests {
        let request = Request::internal(&Method::GET, "/", n.to_be_bytes().into());
        let key = cluster.key(&RequestView { request, headers: &headers });
        let mut tried = TriedEndpoints::new();
        let first = cluster.pick(&key, &tried, Duration::from_secs(30)).unwrap();
        tried.add(first.endpoint());
        let second = cluster.pick(&key, &tried, Duration::from_secs(30)).unwrap();
        assert_ne!(first.endpoint().token(), second.endpoint().token());
    }
}

#[test]
fn a_choice_for_the_clients_of_a_drain_allocates_nothing() {
    for kind in ["round_robin", "random", "least_connections", "p2c"] {
        let cluster = cluster(kind, 1000);
        // Two that were drained are newcomers, and a third one drains.
        for address in ["127.1.0.1:80", "127.1.0.2:80"] {
            cluster.order(address, Order::Drain).unwrap();
            cluster.order(address, Order::Undrain).unwrap();
        }
        let leaving = cluster.lease_of("127.1.0.3:80", None).unwrap();
        cluster.order("127.1.0.3:80", Order::Drain).unwrap();
        let drain = cluster.leaving().remove(0);
        let closed = cluster.begin_drain(&drain, Duration::from_secs(30), 500_000);
        closed.fetch_add(500, std::sync::atomic::Ordering::Relaxed);
        drop(leaving);
        let headers = HeaderMap::new();
        let newcomers = ["127.1.0.1:80", "127.1.0.2:80"];
        let open = |count: usize| {
            for _ in 0..count {
                let request = Request::internal(&Method::GET, "/", [127, 0, 0, 1].into());
                let key = cluster.key(&RequestView { request, headers: &headers });
                let tried = TriedEndpoints::new();
                let lease = cluster.pick_for_websocket(&key, &tried, Duration::from_secs(30)).unwrap();
                assert!(newcomers.contains(&lease.endpoint().name()), "{kind}");
            }
        };
        // The first one prepares what the others use.
        open(1);
        let counted = allocation_counter::measure(|| open(300));
        assert_eq!(counted.count_total, 0, "{kind}");
    }
}

#[test]
fn a_choice_allocates_nothing_however_many_endpoints_there_are() {
    for kind in BALANCE {
        for members in [10, 1000, 10_000] {
            let cluster = cluster(kind.name, members);
            // The first ones prepare what the others use.
            send(&cluster, 100);
            let counted = allocation_counter::measure(|| send(&cluster, 300));
            assert_eq!(counted.count_total, 0, "{} of {members}", kind.name);
        }
    }
}
