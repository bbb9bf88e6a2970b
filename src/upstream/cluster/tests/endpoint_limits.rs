//! Tests of `max_connections` of endpoints.

use super::*;
use crate::upstream::testing::change;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicUsize;

fn limited(lines: &[(&str, u32)], balance: &str) -> config::Upstream {
    let mut spec = upstream(&lines.iter().map(|(address, _)| *address).collect::<Vec<_>>());
    for (address, limit) in lines {
        change(&mut spec, address, |endpoint| endpoint.max_connections = NonZeroU32::new(*limit));
    }
    spec.balance = Some(kind(balance, &[]));
    spec
}

fn active(cluster: &Cluster) -> Vec<usize> {
    cluster.status().endpoints.iter().map(|endpoint| endpoint.active).collect()
}

#[test]
fn a_full_endpoint_is_skipped_until_one_leaves() {
    for balance in ["round_robin", "random", "least_connections", "p2c", "consistent_hash", "sticky"] {
        let cluster = build(&limited(&[("127.0.0.1:81", 2), ("127.0.0.1:82", 3)], balance), None);
        let mut leases: Vec<_> = (0..5).map(|_| pick(&cluster, &TriedEndpoints::new()).unwrap()).collect();
        assert_eq!(active(&cluster), [2, 3], "{balance}");
        assert_eq!(pick(&cluster, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full, "{balance}");
        leases.retain(|lease| address(lease) == "127.0.0.1:81");
        for _ in 0..3 {
            leases.push(pick(&cluster, &TriedEndpoints::new()).unwrap());
        }
        assert_eq!(active(&cluster), [2, 3], "{balance}");
        assert_eq!(cluster.all_unhealthy_picks(), 0);
    }
}

#[test]
fn a_look_at_the_candidates_takes_no_place() {
    let cluster = build(&limited(&[("127.0.0.1:81", 1), ("127.0.0.1:82", 1)], "round_robin"), None);
    let mut tried = TriedEndpoints::new();
    let _leases = [0, 1].map(|held| {
        assert!(cluster.has_candidate(&tried));
        assert_eq!(active(&cluster).iter().sum::<usize>(), held);
        let lease = pick(&cluster, &tried).unwrap();
        tried.add(lease.endpoint());
        lease
    });
    assert!(!cluster.has_candidate(&tried) && !cluster.has_candidate(&TriedEndpoints::new()));
}

#[test]
fn a_retry_skips_a_full_endpoint_too() {
    let cluster = build(&limited(&[("127.0.0.1:81", 1), ("127.0.0.1:82", 1)], "round_robin"), None);
    let first = pick(&cluster, &TriedEndpoints::new()).unwrap();
    let mut tried = TriedEndpoints::new();
    tried.add(first.endpoint());
    let second = pick(&cluster, &tried).unwrap();
    assert_ne!(first.endpoint().token(), second.endpoint().token());
    drop(first);
    assert_eq!(pick(&cluster, &tried).unwrap_err(), NoEndpoint::Full, "the one with a place was tried");
    tried.add(second.endpoint());
    assert_eq!(pick(&cluster, &tried).unwrap_err(), NoEndpoint::Tried);
}

#[test]
fn backups_take_what_is_above_the_limits() {
    let mut spec = limited(&[("127.0.0.1:81", 2), ("127.0.0.1:82", 1)], "least_connections");
    change(&mut spec, "127.0.0.1:82", |endpoint| endpoint.backup = true);
    let cluster = build(&spec, None);
    let _leases: Vec<_> = (0..3).map(|_| pick(&cluster, &TriedEndpoints::new()).unwrap()).collect();
    assert_eq!(active(&cluster), [2, 1]);
    assert_eq!(pick(&cluster, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full);
}

#[test]
fn unhealthy_endpoints_do_not_help_full_ones() {
    let cluster = build(&limited(&[("127.0.0.1:81", 1), ("127.0.0.1:82", 1)], "round_robin"), None);
    eject(&cluster, ":82");
    let lease = pick(&cluster, &TriedEndpoints::new()).unwrap();
    assert_eq!(address(&lease), "127.0.0.1:81");
    assert_eq!(pick(&cluster, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full);
    drop(lease);
    eject(&cluster, ":81");
    let _leases: Vec<_> = (0..2).map(|_| pick(&cluster, &TriedEndpoints::new()).unwrap()).collect();
    assert_eq!(
        pick(&cluster, &TriedEndpoints::new()).unwrap_err(),
        NoEndpoint::Full,
        "`any` respects it too"
    );
}

#[test]
fn a_reload_changes_the_limit_and_keeps_what_is_open() {
    let wide = build(&upstream(&["127.0.0.1:81"]), None);
    let mut leases: Vec<_> = (0..3).map(|_| pick(&wide, &TriedEndpoints::new()).unwrap()).collect();
    let narrow = build(&limited(&[("127.0.0.1:81", 2)], "round_robin"), Some(&wide));
    assert_eq!(pick(&narrow, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full);
    leases.truncate(1);
    leases.push(pick(&narrow, &TriedEndpoints::new()).unwrap());
    assert_eq!(pick(&narrow, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Full);
    assert!(narrow.lease_of("127.0.0.1:81", None).is_some(), "a WebSocket that exists is not refused");
    let more = build(&limited(&[("127.0.0.1:81", 4)], "round_robin"), Some(&narrow));
    assert!(pick(&more, &TriedEndpoints::new()).is_ok());
}

#[test]
fn threads_together_never_exceed_the_limit_and_use_all_of_it() {
    for balance in ["least_connections", "round_robin"] {
        let cluster = build(&limited(&[("127.0.0.1:81", 3), ("127.0.0.1:82", 2)], balance), None);
        let (most, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let over = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Ok(lease) = pick(&cluster, &TriedEndpoints::new()) else {
                            refused.fetch_add(1, Relaxed);
                            continue;
                        };
                        let limit = if address(&lease) == "127.0.0.1:81" { 3 } else { 2 };
                        let held = lease.endpoint().active();
                        over.fetch_add(usize::from(held > limit), Relaxed);
                        most.fetch_max(held, Relaxed);
                        std::thread::yield_now();
                    }
                });
            }
        });
        assert_eq!(over.into_inner(), 0, "{balance}");
        assert_eq!(most.into_inner(), 3, "{balance}");
        assert_eq!(active(&cluster), [0, 0], "{balance}");
    }
}

#[test]
fn with_as_many_places_as_threads_no_request_is_refused() {
    let cluster = build(&limited(&[("127.0.0.1:81", 4), ("127.0.0.1:82", 4)], "least_connections"), None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    // At most seven others hold one.
                    assert!(pick(&cluster, &TriedEndpoints::new()).is_ok());
                }
            });
        }
    });
}
