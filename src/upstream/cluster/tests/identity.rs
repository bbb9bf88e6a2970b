//! Tests of members whose source has identifiers: another one at an old address is a newcomer.

use super::*;
use crate::upstream::FeedState;

const ADDRESS: &str = "127.0.0.1:81";

/// An upstream whose discovery has this member at the address.
fn discovered(balance: &str, uid: Option<&str>) -> Arc<Cluster> {
    let mut spec = upstream(&[]);
    spec.endpoints.place = moongate_config::Place::nowhere();
    spec.discovery = Some(kind("file", &[("path", "members.yaml")]));
    spec.balance = Some(match balance {
        "sticky" => kind("sticky", &[("secret", "s3cret")]),
        other => kind(other, &[]),
    });
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    let cluster = build(&spec, None);
    announce(&cluster, uid);
    cluster
}

fn announce(cluster: &Cluster, uid: Option<&str>) {
    let member = serde_json::json!({ "address": ADDRESS, "uid": uid, "weight": 1, "origin": "test" });
    let state = serde_json::json!({ "source": "file members.yaml", "members": [member] });
    cluster.restore_feed(serde_json::from_value::<FeedState>(state).unwrap());
}

/// The name and value of the cookie for the only member.
fn cookie(cluster: &Cluster) -> String {
    let headers = http::HeaderMap::new();
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    let lease = cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
    let line = cluster.sticky_cookie(&lease, &key).unwrap().0.to_str().unwrap().to_owned();
    line.split(';').next().unwrap().to_owned()
}

fn affinity(cluster: &Cluster, cookie: &str) -> Affinity {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::COOKIE, cookie.parse().unwrap());
    cluster.affinity(&headers, Duration::from_secs(30))
}

#[test]
fn a_cookie_does_not_pass_over_to_another_member_at_its_address() {
    let cluster = discovered("sticky", Some("pod-1"));
    let of_first = cookie(&cluster);
    assert_eq!(affinity(&cluster, &of_first), Affinity::Endpoint);
    announce(&cluster, Some("pod-2"));
    assert_eq!(affinity(&cluster, &of_first), Affinity::None);
    let of_second = cookie(&cluster);
    assert_ne!(of_first.split('.').next(), of_second.split('.').next());
    // Another gateway that has seen the second alone agrees.
    assert_eq!(affinity(&discovered("sticky", Some("pod-2")), &of_second), Affinity::Endpoint);
    announce(&cluster, Some("pod-1"));
    assert_eq!(affinity(&cluster, &of_first), Affinity::Endpoint, "the first one is back");
    announce(&cluster, None);
    assert_eq!(affinity(&cluster, &of_first), Affinity::None);
}

#[test]
fn ejection_and_drain_of_a_member_do_not_pass_over_in_an_upgrade() {
    let old = discovered("round_robin", Some("pod-1"));
    eject(&old, ":81");
    old.order(ADDRESS, Order::Drain).unwrap();
    let states = old.endpoint_states();
    let is_restored = |uid| {
        let new = discovered("round_robin", uid);
        new.restore_endpoints(&states);
        let endpoint = new.endpoints().remove(0);
        assert_eq!(endpoint.is_ejected(), endpoint.is_drained());
        endpoint.is_drained()
    };
    assert_eq!([Some("pod-1"), Some("pod-2"), None].map(is_restored), [true, false, false]);
}

#[test]
fn a_websocket_of_another_process_continues_at_its_own_member() {
    let cluster = discovered("round_robin", Some("pod-2"));
    let of_member = cluster.lease_of(ADDRESS, Some("pod-2")).unwrap();
    let of_former = [Some("pod-1"), None].map(|uid| cluster.lease_of(ADDRESS, uid).unwrap());
    assert_eq!(cluster.endpoints()[0].active(), 1);
    assert_eq!(of_member.endpoint().token(), cluster.endpoints()[0].token());
    assert_ne!(of_former[0].endpoint().token(), of_former[1].endpoint().token());
    assert_eq!(cluster.leaving().len(), 2, "those at former members drain");
}
