//! Limits that several gateways share through real Redis servers: alone, with Sentinel, and as a cluster.

mod load;
mod outages;
mod websockets;

use crate::support::certs::Authority;
use crate::support::redis::{Redis, cluster, free_port, is_installed};
use crate::support::{Gateway, Origin, Wire, eventually};
use load::{Sample, allowed, drive};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Stores of one server.
fn single(address: &str, more: &str) -> String {
    format!("stores: {{ fleet: {{ kind: redis, url: 'redis://{address}'{more} }} }}\n")
}

/// The rate and the burst of [`limited`]: a busy machine exceeds the rate, and fills no bucket when it pauses.
const RATE: f64 = 40.0;
const BURST: f64 = 40.0;

/// A route with a limit of [`RATE`] a second, and one without at `/free`.
fn limited(origin: &Origin) -> String {
    format!(
        "routes:
  - {{ name: free, path: /free, upstream: ['{origin}'] }}
  - {{ name: all, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, rate: {RATE}/s, burst: {BURST}, store: fleet }}] }}\n"
    )
}

fn is_up(gateway: &Gateway) -> bool {
    gateway.status()["stores"][0]["up"] == true
}

/// Gateways with this configuration, which all have seen each other.
fn fleet(count: usize, yaml: &str) -> Vec<Gateway> {
    let gateways: Vec<_> = (0..count).map(|_| Gateway::start(yaml)).collect();
    for gateway in &gateways {
        eventually("every gateway sees all", || {
            let store = &gateway.status()["stores"][0];
            (store["up"] == true && store["gateways"] == count).then_some(())
        });
    }
    gateways
}

/// What the limit allows in this time.
fn most(time: Duration) -> f64 {
    BURST + RATE * time.as_secs_f64()
}

#[test]
fn three_gateways_share_a_rate_within_one_percent() {
    if !is_installed("three_gateways_share_a_rate_within_one_percent") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(3, &(single(&redis.address(), ", deadline: 1s") + &limited(&origin)));
    let samples = drive(&gateways, Duration::from_secs(5), |_| ());
    assert!(samples.iter().all(|sample| matches!(sample.status, 200 | 429)));
    // From the first request that was allowed to the last one.
    let times: Vec<_> =
        samples.iter().filter(|sample| sample.status == 200).map(|sample| sample.begun).collect();
    let time = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    let (passed, most) = (times.len() as f64, most(time));
    assert!((passed - most).abs() <= most / 100.0 + 1.0, "{passed} of {most}");
    for gateway in &gateways {
        let metrics = gateway.metrics();
        assert!(
            metrics.sum("moongate_store_requests_total", &[("store", "fleet"), ("outcome", "ok")]) >= 20.0
        );
        assert_eq!(metrics.sum("moongate_store_up", &[("store", "fleet")]), 1.0);
        assert!(metrics.sum("moongate_store_duration_seconds_count", &[("store", "fleet")]) >= 20.0);
    }
    let clients = redis.command(&["CLIENT", "LIST"]);
    let gateways = clients.lines().filter(|line| !line.contains("cmd=client")).count();
    assert!((3..=12).contains(&gateways), "{gateways} connections of three gateways\n{clients}");
}

#[test]
fn each_key_has_a_bucket_in_a_cluster() {
    if !is_installed("each_key_has_a_bucket_in_a_cluster") {
        return;
    }
    let (nodes, origin) = (cluster(), Origin::named("a"));
    let servers = nodes.iter().map(|node| format!("'{}'", node.address())).collect::<Vec<_>>().join(", ");
    let yaml = format!(
        "stores: {{ fleet: {{ kind: redis, cluster: [{servers}], deadline: 1s }} }}
routes: [{{ name: all, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, rate: 5/h, key: 'header:x-key', store: fleet }}] }}]\n"
    );
    let gateways = fleet(2, &yaml);
    let mut wires: Vec<_> = gateways.iter().map(Gateway::wire).collect();
    for key in 0..30 {
        let mut passed = 0;
        for round in 0..8 {
            let wire = &mut wires[round % 2];
            wire.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Key: {key}\r\n\r\n"));
            passed += usize::from(wire.response().status == 200);
        }
        assert_eq!(passed, 5, "key {key}");
    }
    let with_keys = nodes.iter().filter(|node| node.command(&["DBSIZE"]) != "0").count();
    assert_eq!(with_keys, 3, "the keys are spread over the masters");
}

#[test]
fn the_headers_show_the_quota_of_the_fleet() {
    if !is_installed("the_headers_show_the_quota_of_the_fleet") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let yaml = format!(
        "{}routes: [{{ name: all, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, rate: 3/h, store: fleet }}] }}]\n",
        single(&redis.address(), ", deadline: 1s")
    );
    let gateways = fleet(2, &yaml);
    let left = |at: usize| {
        let response = gateways[at].get("/");
        (response.status, response.field("ratelimit").unwrap().to_owned())
    };
    assert_eq!(left(0), (200, "\"rate_limit\";r=2;t=1200".to_owned()));
    assert_eq!(left(1).0, 200);
    let (status, quota) = left(0);
    assert!(status == 200 && quota.starts_with("\"rate_limit\";r=0;"), "{quota}");
    let refused = gateways[1].get("/");
    assert_eq!(refused.status, 429);
    let after: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1190..=1200).contains(&after), "{after}");
}

#[test]
fn a_password_is_required_and_never_shown() {
    if !is_installed("a_password_is_required_and_never_shown") {
        return;
    }
    let redis = Redis::start_with(|_| Vec::new());
    redis.command(&["CONFIG", "SET", "requirepass", "swordfish"]);
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "swordfish\n").unwrap();
    let gateway = Gateway::start_in(folder, |_| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\n{}{}",
            single(&redis.address(), ", password_file: password, deadline: 1s"),
            limited(&origin)
        )
    });
    eventually("the store is up", || is_up(&gateway).then_some(()));
    let without = Gateway::start(&(single(&redis.address(), "") + &limited(&origin)));
    assert_eq!(without.get("/").status, 200, "on_failure: local");
    assert!(!is_up(&without));
    let error = without.status()["stores"][0]["error"].to_string();
    assert!(error.to_lowercase().contains("auth"), "{error}");
    for text in [gateway.log().text(), gateway.status().to_string()] {
        assert!(!text.contains("swordfish"), "{text}");
    }
}

#[test]
fn a_store_is_reached_over_tls() {
    if !is_installed("a_store_is_reached_over_tls") {
        return;
    }
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let pair = authority.issue("redis", &["127.0.0.1"]);
    let port = std::sync::atomic::AtomicU16::new(0);
    let _redis = Redis::start_with(|_| {
        port.store(free_port(), Relaxed);
        let path = |path: &std::path::Path| path.display().to_string();
        [
            ["--tls-port", &port.load(Relaxed).to_string()],
            ["--tls-cert-file", &path(&pair.cert)],
            ["--tls-key-file", &path(&pair.key)],
            ["--tls-ca-cert-file", &path(&authority.file())],
            ["--tls-auth-clients", "no"],
        ]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect()
    });
    let store = |ca: &std::path::Path| {
        let port = port.load(Relaxed);
        format!(
            "stores: {{ fleet: {{ kind: redis, url: 'rediss://127.0.0.1:{port}', tls: {{ ca: '{}' }}, deadline: 1s }} }}\n",
            ca.display()
        )
    };
    let gateway = Gateway::start(&(store(&authority.file()) + &limited(&origin)));
    eventually("the store is up", || is_up(&gateway).then_some(()));
    assert_eq!(gateway.get("/").status, 200);
    let other = Authority::new();
    let distrustful = Gateway::start(&(store(&other.file()) + &limited(&origin)));
    assert_eq!(distrustful.get("/").status, 200, "on_failure: local");
    assert!(!is_up(&distrustful), "another authority issued the certificate");
}

#[test]
fn a_reload_keeps_an_unchanged_store_and_replaces_a_changed_one() {
    if !is_installed("a_reload_keeps_an_unchanged_store_and_replaces_a_changed_one") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateway = Gateway::start(&(single(&redis.address(), "") + &limited(&origin)));
    let connected = || {
        redis
            .command(&["INFO", "stats"])
            .lines()
            .find(|line| line.starts_with("total_connections_received"))
            .map(str::to_owned)
    };
    eventually("the store is up", || is_up(&gateway).then_some(()));
    let since = gateway.status()["stores"][0]["since"].clone();
    gateway.reload(&(single(&redis.address(), "") + &limited(&origin) + "log: { level: debug }\n")).unwrap();
    assert_eq!(gateway.status()["stores"][0]["since"], since);
    assert_eq!(gateway.log().count(0, "store became available"), 1);
    assert!(connected().is_some());
    gateway.reload(&(single(&redis.address(), ", key_prefix: 'other:'") + &limited(&origin))).unwrap();
    assert_eq!(gateway.get("/").status, 200);
    eventually("the new store is up", || {
        (gateway.log().count(0, "store became available") == 2).then_some(())
    });
    eventually("the new prefix is in use", || {
        gateway.get("/");
        redis
            .command(&["KEYS", "other:rate:*"])
            .contains("other:rate:route/all/rate_limit/rate_limit/requests:")
            .then_some(())
    });
    eventually("the old connection ends", || {
        let clients = redis.command(&["CLIENT", "LIST"]);
        (clients.lines().filter(|line| !line.contains("cmd=client")).count() == 1).then_some(())
    });
}

#[test]
fn a_handshake_rate_holds_for_all_gateways() {
    if !is_installed("a_handshake_rate_holds_for_all_gateways") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let yaml = format!(
        "{}routes: [{{ name: all, upstream: ['{origin}'], websocket: {{ handshake_rate: {{ rate: 2/h, store: fleet }} }} }}]\n",
        single(&redis.address(), ", deadline: 1s")
    );
    let gateways = fleet(2, &yaml);
    let open = |gateway: &Gateway| crate::support::Socket::open_with(gateway.web(), "/", &[]);
    let first = open(&gateways[0]).unwrap();
    assert_eq!(open(&gateways[1]).err(), Some(503));
    drop(first);
}

/// The percentage of requests that took longer than this, of those with the limit and of those without.
fn slower_than(limit: Duration, samples: &[&Sample]) -> [f64; 2] {
    let percent = |took: fn(&Sample) -> Duration| {
        let slow = samples.iter().filter(|sample| took(sample) > limit).count();
        slow as f64 * 100.0 / samples.len().max(1) as f64
    };
    [percent(|sample| sample.took), percent(|sample| sample.free)]
}

fn status_of(wire: &mut Wire, path: &str) -> u16 {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wire.response().status
}
