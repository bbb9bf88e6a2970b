//! Tests of what is kept ready for selections: it follows every change, and a selection looks at few endpoints.

use super::*;
use crate::upstream::balance::Member;
use crate::upstream::testing::{change, reads_of};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

const KINDS: [&str; 6] = ["round_robin", "random", "least_connections", "p2c", "consistent_hash", "sticky"];

/// That many endpoints with these weights in turn.
fn many(balance: &str, count: u16, weights: &[u16]) -> config::Upstream {
    let line = |n: u16| {
        let [high, low] = n.to_be_bytes();
        format!("127.1.{high}.{low}:80*{}", weights[usize::from(n) % weights.len()])
    };
    let lines: Vec<_> = (0..count).map(line).collect();
    let mut spec = upstream(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    spec.balance = Some(kind(balance, &[]));
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    spec
}

fn pick_of(cluster: &Cluster, client: u32, tried: &TriedEndpoints) -> Result<Lease, NoEndpoint> {
    let headers = http::HeaderMap::new();
    let client = IpAddr::V4(Ipv4Addr::from_bits(client));
    let request = RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
    cluster.pick(&cluster.key(&request), tried, Duration::from_secs(30))
}

#[test]
fn a_selection_reads_few_endpoints_however_many_there_are() {
    for (balance, weights) in KINDS.iter().flat_map(|kind| [(kind, &[1][..]), (kind, &[1, 2, 3])]) {
        for count in [10, 1000, 10_000] {
            let cluster = build(&many(balance, count, weights), None);
            // The first one prepares the others.
            let first = pick_of(&cluster, 0, &TriedEndpoints::new()).unwrap();
            let mut tried = TriedEndpoints::new();
            tried.add(first.endpoint());
            let mut held = std::collections::VecDeque::new();
            for client in 1..200 {
                let (reads, lease) = reads_of(|| pick_of(&cluster, client, &TriedEndpoints::new()).unwrap());
                // Ten are few enough for `least_connections` to compare them.
                let few = if count == 10 { 80 } else { 16 };
                assert!(reads <= few, "{balance} of {count}: {reads}");
                held.push_back(lease);
                let (reads, again) = reads_of(|| pick_of(&cluster, client, &tried).unwrap());
                assert!(reads <= 2 * few, "a retry at {balance} of {count}: {reads}");
                assert_ne!(again.endpoint().token(), first.endpoint().token());
                let (reads, _) = reads_of(|| drop(again));
                assert!(reads <= 2, "the end of a request at {balance} of {count}: {reads}");
                if held.len() > 50 {
                    held.pop_front();
                }
            }
        }
    }
}

#[test]
fn a_sticky_session_and_the_sessions_of_a_drain_read_few_endpoints() {
    for balance in ["sticky", "consistent_hash"] {
        let cluster = build(&many(balance, 2000, &[1]), None);
        (0..1000).for_each(|n| cluster.endpoints()[n].set_drained(true));
        let mut headers = http::HeaderMap::new();
        let request = |headers: &http::HeaderMap| {
            let view = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers };
            let key = cluster.key(&view);
            let lease = cluster.pick(&key, &TriedEndpoints::new(), Duration::from_secs(3600)).unwrap();
            let cookie = cluster.sticky_cookie(&lease, &key);
            (lease, cookie)
        };
        let (_, cookie) = request(&headers);
        if let Some((line, _)) = cookie {
            let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
            headers.insert(http::header::COOKIE, pair.parse().unwrap());
        }
        let (first, _) = request(&headers);
        let (reads, (lease, cookie)) = reads_of(|| request(&headers));
        assert_eq!((lease.endpoint().token(), cookie), (first.endpoint().token(), None));
        assert!(reads <= 40, "{balance}: {reads}");
    }
}

/// What happens to an upstream.
#[derive(Clone, Debug)]
enum Event {
    Eject(usize),
    /// A response, which ends an ejection.
    Respond(usize),
    Drain(usize),
    Undrain(usize),
    Probe(usize, bool),
    /// A selection after these were tried, which is held.
    Pick(Vec<usize>, u32),
    /// The end of the oldest request.
    End,
}

fn events(count: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        1 => (0..count).prop_map(Event::Eject),
        1 => (0..count).prop_map(Event::Respond),
        1 => (0..count).prop_map(Event::Drain),
        1 => (0..count).prop_map(Event::Undrain),
        2 => ((0..count), any::<bool>()).prop_map(|(index, ok)| Event::Probe(index, ok)),
        8 => (prop::collection::vec(0..count, 0..3), any::<u32>()).prop_map(|(tried, client)| Event::Pick(tried, client)),
        3 => Just(Event::End),
    ];
    prop::collection::vec(event, 1..60)
}

/// Six endpoints, or more of the same sorts: some with a limit, every third a backup.
fn mixed(balance: &str, count: u16, policy: WhenAllUnhealthy) -> Arc<Cluster> {
    let mut spec = many(balance, count, &[1, 2, 0, 3, 1, 1]);
    let addresses: Vec<_> = spec.endpoints.iter().map(|entry| entry.value.address().to_owned()).collect();
    for (index, address) in addresses.iter().enumerate() {
        change(&mut spec, address, |endpoint| {
            endpoint.backup = index % 3 == 1;
            endpoint.max_connections = NonZeroU32::new([0, 1, 0, 2][index % 4]);
        });
    }
    spec.when_all_unhealthy = policy;
    spec.health_check = Some(kind("tcp", &[]));
    let cluster = build(&spec, None);
    let thresholds = cluster.schedule.unwrap().thresholds;
    // One in seven is not probed yet.
    let probed = cluster.endpoints().into_iter().enumerate().filter(|(index, _)| index % 7 != 5);
    for (_, endpoint) in probed {
        endpoint.probed(true, Proof::Handshake, thresholds);
    }
    cluster
}

/// Applies events to an upstream, and compares each selection with a list made anew.
fn follow(cluster: &Cluster, balance: &str, events: Vec<Event>) -> Result<(), TestCaseError> {
    let endpoints = cluster.endpoints();
    let thresholds = cluster.schedule.unwrap().thresholds;
    let mut held = std::collections::VecDeque::new();
    for event in events {
        match event {
            Event::Eject(index) => {
                let lease = Lease::new(Arc::clone(&endpoints[index]), cluster.policy);
                (0..3).for_each(|_| lease.failed(Reason::Refused));
            }
            Event::Respond(index) => {
                Lease::new(Arc::clone(&endpoints[index]), cluster.policy)
                    .record_latency(Duration::from_millis(1));
            }
            Event::Drain(index) => cluster.order(endpoints[index].name(), Order::Drain).unwrap(),
            Event::Undrain(index) => cluster.order(endpoints[index].name(), Order::Undrain).unwrap(),
            Event::Probe(index, is_ok) => {
                endpoints[index].probed(is_ok, Proof::Handshake, thresholds);
            }
            Event::Pick(indices, client) => {
                let mut tried = TriedEndpoints::new();
                indices.iter().for_each(|index| tried.add(&endpoints[*index]));
                let members = cluster.endpoint_set.current();
                let listed: BTreeSet<usize> = members.list(&tried).iter().collect();
                let before: Vec<usize> = endpoints.iter().map(|endpoint| endpoint.active()).collect();
                let headers = http::HeaderMap::new();
                let client = IpAddr::V4(Ipv4Addr::from_bits(client));
                let view =
                    RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
                let found = cluster.pick(&cluster.key(&view), &tried, Duration::ZERO);
                prop_assert_eq!(found.is_ok(), !listed.is_empty(), "{:?}", found);
                let Ok(lease) = found else { continue };
                let token = lease.endpoint().token();
                let chosen = endpoints.iter().position(|endpoint| endpoint.token() == token).unwrap();
                prop_assert!(listed.contains(&chosen), "{} of {:?}", chosen, listed);
                if ["least_connections", "sticky"].contains(&balance) {
                    let weight = |index: usize| usize::from(members.as_slice()[index].weight());
                    let is_less =
                        |index: &&usize| before[**index] * weight(chosen) < before[chosen] * weight(**index);
                    prop_assert_eq!(listed.iter().find(is_less), None, "less than {}", chosen);
                }
                held.push_back(lease);
            }
            Event::End => drop(held.pop_front()),
        }
        let awaits = first_probe_is_awaited(cluster.endpoint_set.current().as_slice());
        prop_assert_eq!(cluster.endpoint_set.ready().awaits_first_probe(), awaits);
    }
    Ok(())
}

/// Whether an unprobed member precedes every usable one.
fn first_probe_is_awaited(members: &[Member]) -> bool {
    let usable = members.iter().filter(|member| member.is_usable()).map(Member::tier).min();
    let awaited = members.iter().filter(|member| member.is_open() && member.endpoint().awaits_first_probe());
    awaited.map(Member::tier).any(|tier| usable.is_none_or(|usable| tier < usable))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_selection_is_always_one_of_those_that_may_be_selected(
        balance in prop::sample::select(&KINDS[..]),
        any in any::<bool>(),
        events in events(6),
    ) {
        let policy = if any { WhenAllUnhealthy::Any } else { WhenAllUnhealthy::Fail };
        follow(&mixed(balance, 6, policy), balance, events)?;
    }

    #[test]
    fn many_are_selected_as_few_are(
        balance in prop::sample::select(&KINDS[..]),
        any in any::<bool>(),
        events in events(150),
    ) {
        let policy = if any { WhenAllUnhealthy::Any } else { WhenAllUnhealthy::Fail };
        follow(&mixed(balance, 150, policy), balance, events)?;
    }
}

#[test]
fn an_ejected_endpoint_returns_when_its_time_is_over() {
    let mut spec = many("round_robin", 2, &[1]);
    spec.passive_health.eject_for = Period(Duration::from_millis(50));
    let cluster = build(&spec, None);
    eject(&cluster, "127.1.0.0:80");
    let began = std::time::Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(address(&pick_of(&cluster, 1, &TriedEndpoints::new()).unwrap()));
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert!(began.elapsed() >= Duration::from_millis(49));
}

#[test]
fn the_share_of_a_new_endpoint_grows() {
    let mut spec = many("round_robin", 2, &[1]);
    spec.slow_start = Some(Period(Duration::from_millis(1500)));
    let cluster = build(&spec, None);
    cluster.order("127.1.0.0:80", Order::Drain).unwrap();
    cluster.order("127.1.0.0:80", Order::Undrain).unwrap();
    let began = std::time::Instant::now();
    let part = || {
        let picked = (0..200).map(|_| address(&pick_of(&cluster, 1, &TriedEndpoints::new()).unwrap()));
        picked.filter(|address| address == "127.1.0.0:80").count()
    };
    assert!(part() < 60, "a tenth of the weight is 18 of 200");
    while part() < 99 {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn threads_spread_connections_evenly_over_many_endpoints() {
    let mut spec = many("least_connections", 60, &[1]);
    for n in 0..60 {
        change(&mut spec, &format!("127.1.0.{n}:80"), |endpoint| {
            endpoint.max_connections = NonZeroU32::new(1);
        });
    }
    let cluster = build(&spec, None);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let cluster = &cluster;
            scope.spawn(move || {
                for round in 0..500 {
                    let held: Vec<_> =
                        (0..7).map(|_| pick_of(cluster, 1, &TriedEndpoints::new()).unwrap()).collect();
                    if thread == 0 && round % 50 == 0 {
                        cluster.order("127.1.0.7:80", Order::Drain).unwrap();
                        cluster.order("127.1.0.7:80", Order::Undrain).unwrap();
                    }
                    drop(held);
                }
            });
        }
    });
    let held: Vec<_> = (0..60).map(|_| pick_of(&cluster, 1, &TriedEndpoints::new()).unwrap()).collect();
    assert!(cluster.endpoints().iter().all(|endpoint| endpoint.active() == 1));
    assert_eq!(pick_of(&cluster, 1, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full);
    drop(held);
}

#[test]
fn the_engine_selects_the_same_endpoints_each_once() {
    for balance in KINDS {
        let cluster = build(&many(balance, 5, &[1, 2]), None);
        let seen = std::cell::RefCell::new(Vec::new());
        let refuse = |backend: &pingora_load_balancing::Backend, _: bool| {
            seen.borrow_mut().push(backend.addr.to_string());
            false
        };
        assert!(cluster.engine.select_with(b"key", 100, refuse).is_none());
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, (0..5).map(|n| format!("127.1.0.{n}:80")).collect::<Vec<_>>(), "{balance}");
    }
}
