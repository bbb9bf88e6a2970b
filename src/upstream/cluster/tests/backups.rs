//! Tests of backups: endpoints of the second tier.

use super::*;
use crate::upstream::testing::change;

const KINDS: [&str; 6] = ["round_robin", "random", "least_connections", "p2c", "consistent_hash", "sticky"];

/// Two endpoints and two backups, by port.
fn spec(balance: &str) -> config::Upstream {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83", "127.0.0.1:84"]);
    // The backups are neither the first nor the last by address.
    for address in ["127.0.0.1:82", "127.0.0.1:83"] {
        change(&mut spec, address, |endpoint| endpoint.backup = true);
    }
    spec.balance = Some(kind(balance, &[]));
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    spec
}

/// A pick by a client that no other is.
fn pick_of(cluster: &Cluster, client: u8, tried: &TriedEndpoints) -> Result<Lease, NoEndpoint> {
    let headers = http::HeaderMap::new();
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, client));
    let request = RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
    cluster.pick(&cluster.key(&request), tried, Duration::ZERO)
}

/// The ports that many clients get.
fn ports(cluster: &Cluster) -> Vec<u16> {
    let picked = (0..100).map(|client| pick_of(cluster, client, &TriedEndpoints::new()).unwrap());
    let found: std::collections::BTreeSet<u16> =
        picked.map(|lease| address(&lease).rsplit_once(':').unwrap().1.parse().unwrap()).collect();
    found.into_iter().collect()
}

#[test]
fn a_backup_is_selected_only_while_no_other_endpoint_is_available() {
    for balance in KINDS {
        let cluster = build(&spec(balance), None);
        assert_eq!(ports(&cluster), [81, 84], "{balance}");
        eject(&cluster, ":81");
        assert_eq!(ports(&cluster), [84], "{balance}");
        cluster.order("127.0.0.1:84", Order::Drain).unwrap();
        assert_eq!(ports(&cluster), [82, 83], "{balance}: one is ejected, the other drains");
        cluster.order("127.0.0.1:84", Order::Undrain).unwrap();
        assert_eq!(ports(&cluster), [84], "{balance}");
        assert_eq!(cluster.all_unhealthy_picks(), 0, "{balance}");
    }
}

#[test]
fn a_retry_reaches_the_backups_after_the_others() {
    for balance in KINDS {
        let cluster = build(&spec(balance), None);
        let mut tried = TriedEndpoints::new();
        let mut seen = Vec::new();
        while let Ok(lease) = pick(&cluster, &tried) {
            tried.add(lease.endpoint());
            seen.push(address(&lease));
        }
        seen[..2].sort_unstable();
        seen[2..].sort_unstable();
        assert_eq!(seen, ["127.0.0.1:81", "127.0.0.1:84", "127.0.0.1:82", "127.0.0.1:83"], "{balance}");
        assert_eq!(pick(&cluster, &tried).unwrap_err(), NoEndpoint::Tried, "{balance}");
    }
}

#[test]
fn without_a_healthy_endpoint_the_backups_are_the_last_too() {
    let cluster = build(&spec("round_robin"), None);
    [":81", ":82", ":83", ":84"].iter().for_each(|port| eject(&cluster, port));
    assert_eq!(ports(&cluster), [81, 84]);
    assert_eq!(cluster.all_unhealthy_picks(), 100);
}

#[test]
fn a_sticky_session_of_a_backup_returns_with_the_others() {
    let mut spec = spec("sticky");
    spec.balance = Some(kind("sticky", &[("secret", "s3cret")]));
    let cluster = build(&spec, None);
    ["127.0.0.1:81", "127.0.0.1:84"].iter().for_each(|each| cluster.order(each, Order::Drain).unwrap());
    let mut headers = http::HeaderMap::new();
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    let lease = cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
    let cookie = cluster.sticky_cookie(&lease, &key).unwrap().0.to_str().unwrap().to_owned();
    headers.insert(http::header::COOKIE, cookie.split(';').next().unwrap().parse().unwrap());
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    let again = || cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
    assert_eq!(again().endpoint().token(), lease.endpoint().token());
    assert_eq!(cluster.affinity(&headers, Duration::ZERO), Affinity::Endpoint);
    cluster.order("127.0.0.1:81", Order::Undrain).unwrap();
    assert_eq!(address(&again()), "127.0.0.1:81");
    assert_eq!(cluster.affinity(&headers, Duration::ZERO), Affinity::Upstream);
}

#[test]
fn sessions_of_a_draining_endpoint_stay_there_and_not_at_a_backup() {
    let mut spec = spec("consistent_hash");
    spec.endpoints.value.pop();
    let cluster = build(&spec, None);
    cluster.order("127.0.0.1:81", Order::Drain).unwrap();
    let headers = http::HeaderMap::new();
    let long = Duration::from_secs(100_000_000);
    let at_home = |client: u8| {
        let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, client));
        let request =
            RequestView { request: Request::internal(&Method::GET, "/", client), headers: &headers };
        address(&cluster.pick(&cluster.key(&request), &TriedEndpoints::new(), long).unwrap())
    };
    assert!((0..100).all(|client| at_home(client) == "127.0.0.1:81"), "backups had no sessions");
    assert_eq!(ports(&cluster), [82, 83], "without a window they leave at once");
}

#[test]
fn a_reload_makes_a_backup_and_ends_it() {
    let plain = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82"]), None);
    let lease = pick(&plain, &TriedEndpoints::new()).unwrap();
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82"]);
    change(&mut spec, "127.0.0.1:81", |endpoint| endpoint.backup = true);
    let tiered = build(&spec, Some(&plain));
    assert_eq!(ports(&tiered), [82]);
    assert_eq!(ports(&plain), [81, 82], "building changes nothing that serves");
    let status = tiered.status().endpoints;
    assert_eq!(status.iter().map(|each| (each.tier, each.active)).collect::<Vec<_>>(), [(1, 1), (0, 0)]);
    let again = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82"]), Some(&tiered));
    assert_eq!(ports(&again), [81, 82]);
    assert_eq!(again.endpoints()[0].token(), lease.endpoint().token());
}

#[test]
fn backups_alone_are_used_with_a_warning() {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82"]);
    for address in ["127.0.0.1:81", "127.0.0.1:82"] {
        change(&mut spec, address, |endpoint| endpoint.backup = true);
    }
    let cluster = build(&spec, None);
    assert_eq!(ports(&cluster), [81, 82]);
    assert_eq!(cluster.advice().len(), 1);
}

#[tokio::test]
async fn an_address_changes_its_tier_with_the_name_that_it_is_found_by() {
    let mut spec = upstream(&["first.test:81", "backup.test:81"]);
    change(&mut spec, "backup.test:81", |endpoint| endpoint.backup = true);
    let cluster = build(&spec, None);
    let tiers = || cluster.status().endpoints.iter().map(|each| each.tier).collect::<Vec<_>>();
    let learn = async |name: &str, addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|each| each.parse().unwrap()).collect();
        cluster.source.learn(name, 81, &addresses);
        cluster.engine.update().await.unwrap();
    };
    learn("backup.test", &["127.0.0.1:81", "127.0.0.2:81"]).await;
    assert_eq!(tiers(), [1, 1]);
    learn("first.test", &["127.0.0.1:81"]).await;
    assert_eq!(tiers(), [0, 1]);
    let lease = pick(&cluster, &TriedEndpoints::new()).unwrap();
    assert_eq!(address(&lease), "127.0.0.1:81");
    learn("first.test", &["127.0.0.3:81"]).await;
    assert_eq!(tiers(), [1, 1, 0]);
    assert_eq!(cluster.endpoints()[0].active(), 1, "it is the same endpoint");
}

#[tokio::test]
async fn requests_wait_for_the_first_probe_of_an_endpoint_that_is_no_backup() {
    let (_backup, backup) = listening().await;
    let (first, address_of_first) = listening().await;
    let mut spec = upstream(&[&address_of_first, &backup]);
    change(&mut spec, &backup, |endpoint| endpoint.backup = true);
    spec.health_check = Some(kind("websocket", &[("interval", "20ms"), ("timeout", "20s")]));
    let cluster = build(&spec, None);
    // The probe of the backup succeeds, that of the other one is not answered yet.
    let endpoint =
        |address: &str| cluster.endpoints().into_iter().find(|endpoint| endpoint.name() == address).unwrap();
    let once = std::num::NonZeroU16::MIN;
    let thresholds = crate::upstream::health_score::Thresholds { healthy_after: once, unhealthy_after: once };
    endpoint(&backup).probed(true, Proof::Handshake, thresholds);
    assert!(cluster.endpoint_set.ready().awaits_first_probe());
    assert!(cluster.await_first_probe().now_or_never().is_none());
    endpoint(&address_of_first).probed(false, Proof::Handshake, thresholds);
    assert!(!cluster.endpoint_set.ready().awaits_first_probe());
    assert_eq!(address(&pick(&cluster, &TriedEndpoints::new()).unwrap()), backup);
    endpoint(&address_of_first).probed(true, Proof::Handshake, thresholds);
    assert_eq!(address(&pick(&cluster, &TriedEndpoints::new()).unwrap()), address_of_first);
    drop(first);
}
