//! Tests of the sessions of a draining endpoint.

use super::*;
use crate::upstream::balance::Member;
use crate::upstream::monotonic_millis;
use moongate_config::Placed;

/// Longer than any test: no session's moment is reached.
const LONG: Duration = Duration::from_secs(100_000_000);
/// Over at once.
const OVER: Duration = Duration::from_nanos(1);

/// A cluster of three with this balancer, and a request tied to one of them.
fn tied(balance: &str) -> (Arc<Cluster>, http::HeaderMap) {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]);
    let settings: &[(&str, &str)] =
        if balance == "sticky" { &[("secret", "s3cret")] } else { &[("key", "header:room")] };
    spec.balance = Some(kind(balance, settings));
    let cluster = build(&spec, None);
    let mut headers = http::HeaderMap::new();
    headers.insert("room", "blue".parse().unwrap());
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    let lease = cluster.pick(&key, &TriedEndpoints::new(), LONG).unwrap();
    if let Some((line, _)) = cluster.sticky_cookie(&lease, &key) {
        let line = line.to_str().unwrap().split(';').next().unwrap().parse().unwrap();
        headers.insert(http::header::COOKIE, line);
    }
    (cluster, headers)
}

fn pick_for(
    cluster: &Cluster,
    headers: &http::HeaderMap,
    tried: &TriedEndpoints,
    window: Duration,
) -> String {
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers };
    address(&cluster.pick(&cluster.key(&request), tried, window).unwrap())
}

#[test]
fn a_draining_endpoint_keeps_its_sessions_until_their_moments() {
    for balance in ["sticky", "consistent_hash"] {
        let (cluster, headers) = tied(balance);
        let home = pick_for(&cluster, &headers, &TriedEndpoints::new(), LONG);
        cluster.order(&home, Order::Drain).unwrap();
        for _ in 0..9 {
            assert_eq!(pick_for(&cluster, &headers, &TriedEndpoints::new(), LONG), home, "{balance}");
        }
        // A closed pooled connection does not move a session; a failure does.
        let mut tried = TriedEndpoints::new();
        tried.repeat();
        assert_eq!(pick_for(&cluster, &headers, &tried, LONG), home, "{balance}");
        let endpoint = cluster.endpoints().into_iter().find(|endpoint| endpoint.name() == home).unwrap();
        tried.add(&endpoint);
        assert_ne!(pick_for(&cluster, &headers, &tried, LONG), home, "{balance}");
        // Its moment has passed.
        assert_ne!(pick_for(&cluster, &headers, &TriedEndpoints::new(), OVER), home, "{balance}");
        assert_ne!(pick_for(&cluster, &headers, &TriedEndpoints::new(), Duration::ZERO), home, "{balance}");
        if balance == "sticky" {
            assert_eq!(cluster.affinity(&headers, LONG), Affinity::Endpoint);
            assert_eq!(cluster.affinity(&headers, OVER), Affinity::Upstream);
        }
        cluster.order(&home, Order::Undrain).unwrap();
        assert_eq!(pick_for(&cluster, &headers, &TriedEndpoints::new(), OVER), home, "{balance}");
    }
}

#[test]
fn a_draining_endpoint_gets_no_new_sessions() {
    let (cluster, headers) = tied("sticky");
    let home = pick_for(&cluster, &headers, &TriedEndpoints::new(), LONG);
    cluster.order(&home, Order::Drain).unwrap();
    let without = http::HeaderMap::new();
    for _ in 0..9 {
        assert_ne!(pick_for(&cluster, &without, &TriedEndpoints::new(), LONG), home);
    }
    // A session of an unavailable endpoint does not move to the draining one by chance.
    let (other, mut foreign) = tied("sticky");
    let away = pick_for(&other, &foreign, &TriedEndpoints::new(), LONG);
    if away != home {
        eject(&cluster, &away);
        for _ in 0..9 {
            assert_ne!(pick_for(&cluster, &foreign, &TriedEndpoints::new(), LONG), home);
        }
    }
    foreign.clear();
    // An unhealthy endpoint does not keep its own sessions either.
    eject(&cluster, &home);
    assert_ne!(pick_for(&cluster, &headers, &TriedEndpoints::new(), LONG), home);
}

#[test]
fn a_drain_goes_on_over_a_reload_and_over_the_same_order_once_more() {
    let (cluster, headers) = tied("sticky");
    let home = pick_for(&cluster, &headers, &TriedEndpoints::new(), LONG);
    let since = |cluster: &Cluster| {
        let members = cluster.endpoint_set.current();
        members.as_slice().iter().find_map(Member::draining_since).unwrap()
    };
    cluster.order(&home, Order::Drain).unwrap();
    let began = since(&cluster);
    while monotonic_millis::now() == began {
        std::thread::yield_now();
    }
    cluster.order(&home, Order::Drain).unwrap();
    assert_eq!(since(&cluster), began);
    let marked = |drain: bool| {
        let mut spec = cluster.spec().clone();
        spec.connect_timeout = Period(Duration::from_secs(if drain { 3 } else { 4 }));
        spec.endpoints.value = spec
            .endpoints
            .iter()
            .map(|entry| {
                let config::EndpointEntry::Address(text) = &entry.value else { panic!("an address alone") };
                let address = Placed { value: text.clone(), place: place() };
                let drain = drain && *text == home;
                let full = config::Endpoint { drain, ..crate::upstream::testing::endpoint(&address) };
                Placed { value: config::EndpointEntry::Full(full), place: place() }
            })
            .collect();
        spec
    };
    let next = build(&marked(true), Some(&cluster));
    assert_eq!(since(&next), began);
    next.order(&home, Order::Undrain).unwrap();
    let written = since(&next);
    assert!(written > began, "the configuration drains it since the reload");
    let after = build(
        &{
            let mut spec = marked(true);
            spec.connect_timeout = Period(Duration::from_secs(5));
            spec
        },
        Some(&next),
    );
    assert_eq!(since(&after), written);
    let back = build(&marked(false), Some(&after));
    assert!(back.endpoint_set.current().as_slice().iter().all(|member| member.draining_since().is_none()));
}
