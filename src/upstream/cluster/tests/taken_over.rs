//! Tests of what another process takes over of an upstream.

use super::*;
use crate::upstream::testing::change;

/// Two endpoints, the second with `drain: true`.
fn two() -> Arc<Cluster> {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82"]);
    change(&mut spec, "127.0.0.1:82", |endpoint| endpoint.drain = true);
    spec.balance = Some(kind("consistent_hash", &[]));
    build(&spec, None)
}

fn draining_for(cluster: &Cluster) -> Vec<Option<Duration>> {
    let members = cluster.endpoint_set.current();
    let now = monotonic_millis::now();
    let since = members.as_slice().iter().map(|member| member.draining_since());
    since.map(|since| since.map(|since| Duration::from_millis(now - since))).collect()
}

#[test]
fn drains_keep_their_beginning() {
    let hour = Duration::from_secs(3600);
    let old = two();
    old.order("127.0.0.1:81", Order::Drain).unwrap();
    let mut states = serde_json::to_value(old.endpoint_states()).unwrap();
    for (at, name) in [(0, "drained_ago"), (1, "marked_ago")] {
        assert!(states[at][name].is_u64(), "{states}");
        states[at][name] = 3_600_000.into();
    }
    let new = two();
    new.restore_endpoints(&serde_json::from_value::<Vec<EndpointState>>(states).unwrap());
    let ages = draining_for(&new);
    assert!(ages.iter().all(|age| age.is_some_and(|age| age >= hour)), "{ages:?}");
    // No session belongs to them any more.
    assert!(pick_in(&new, Duration::from_secs(60)).is_err());
    assert!(pick_in(&two(), Duration::from_secs(60)).is_ok());
    // The operator can end it, and a mark that the new configuration lacks is none.
    new.order("127.0.0.1:81", Order::Undrain).unwrap();
    assert_eq!(draining_for(&new)[0], None);
    let plain = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82"]), None);
    plain.restore_endpoints(&new.endpoint_states());
    assert_eq!(draining_for(&plain), [None, None]);
}

fn pick_in(cluster: &Cluster, window: Duration) -> Result<Lease, NoEndpoint> {
    let headers = http::HeaderMap::new();
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let request = RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
    cluster.pick(&cluster.key(&request), &TriedEndpoints::new(), window)
}

#[test]
fn a_removed_endpoint_is_leased_and_seen_until_the_lease_ends() {
    let cluster = build(&upstream(&["127.0.0.1:81"]), None);
    assert!(cluster.lease_of("no address", None).is_none());
    let leases: Vec<_> = (0..2).map(|_| cluster.lease_of("127.0.0.1:99", None).unwrap()).collect();
    let removed = cluster.endpoint_set.removed_in_use();
    assert_eq!((removed.len(), removed[0].active), (1, 2), "one load for both");
    assert_eq!(pick(&cluster, &TriedEndpoints::new()).map(|lease| address(&lease)).unwrap(), "127.0.0.1:81");
    drop(leases);
    assert!(cluster.endpoint_set.removed_in_use().is_empty());
}
