//! Stores that are frozen, killed, slow, read-only or failing over, under load: no request waits for them after the first
//! second, and no more than 1.3 times the limit passes.

use super::{BURST, RATE, Sample, allowed, drive, fleet, is_up, limited, most, single, slower_than};
use crate::support::fake_store::FakeStore;
use crate::support::redis::{Redis, SlowLink, cluster, is_installed, sentinel};
use crate::support::{Gateway, Origin, eventually};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than requests take on a busy machine, so that a wait for the store is told from one for a processor.
const DEADLINE: Duration = Duration::from_millis(100);

/// When an outage begins and ends, and when the load ends.
const BEGIN: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(8);

fn sleep_until(start: Instant, at: Duration) {
    sleep((start + at).saturating_duration_since(Instant::now()));
}

fn deadline() -> String {
    format!(", deadline: {}ms", DEADLINE.as_millis())
}

/// Drives three gateways through an outage.
fn outage(gateways: &[Gateway], begin: impl FnOnce() + Send, end: impl FnOnce() + Send) -> Vec<Sample> {
    drive(gateways, TOTAL, |start| {
        sleep_until(start, BEGIN);
        begin();
        sleep_until(start, BEGIN + SECOND);
        assert!(gateways.iter().all(|gateway| !is_up(gateway)), "the breaker is open");
        let waited = timeouts(gateways);
        sleep_until(start, END);
        assert!(
            (timeouts(gateways) - waited).abs() < 0.5,
            "a request waited for the store after the first second"
        );
        end();
        sleep_until(start, END + 2 * SECOND);
        assert!(gateways.iter().all(is_up), "exact again after 2 s");
    })
}

fn judge(samples: &[Sample]) {
    assert!(samples.iter().all(|sample| matches!(sample.status, 200 | 429)));
    let (passed, limit) = (allowed(samples, Duration::ZERO, TOTAL), most(TOTAL));
    assert!(passed <= 1.3 * limit && passed >= 0.8 * limit, "{passed} of {limit}");
    let during: Vec<_> =
        samples.iter().filter(|sample| (BEGIN + SECOND..END).contains(&sample.begun)).collect();
    assert!(during.len() > 30, "{} requests", during.len());
    judge_times(&during);
    let after = END + 2 * SECOND;
    let (exact, limit) = (allowed(samples, after, TOTAL), BURST + RATE * (TOTAL - after).as_secs_f64());
    assert!(exact <= 1.05 * limit, "{exact} of {limit} after the outage");
}

/// Requests with the limit are no slower than those without. Three requests a second and gateway that wait for a probe
/// would be more than a twentieth.
fn judge_times(samples: &[&Sample]) {
    let [limited, free] = slower_than(DEADLINE * 3 / 4, samples);
    assert!(limited <= free + 3.0, "{limited} % of the requests waited, {free} % without a limit");
}

fn timeouts(gateways: &[Gateway]) -> f64 {
    let labels = [("store", "fleet"), ("outcome", "timeout")];
    gateways.iter().map(|gateway| gateway.metrics().sum("moongate_store_requests_total", &labels)).sum()
}

fn setting(test: &str) -> Option<(Redis, Origin)> {
    is_installed(test).then(|| (Redis::start(), Origin::named("a")))
}

#[test]
fn a_frozen_store_delays_no_request() {
    let Some((redis, origin)) = setting("a_frozen_store_delays_no_request") else { return };
    let gateways = fleet(3, &(single(&redis.address(), &deadline()) + &limited(&origin)));
    judge(&outage(&gateways, || redis.signal("STOP"), || redis.signal("CONT")));
    for gateway in &gateways {
        let log = gateway.log();
        log.wait(0, &["store became unavailable store=fleet"]);
        assert!(log.count(0, "store became unavailable") <= 2, "{}", log.text());
        let skipped = [("store", "fleet"), ("outcome", "unavailable")];
        assert!(gateway.metrics().sum("moongate_store_requests_total", &skipped) >= 10.0);
    }
}

#[test]
fn a_killed_store_delays_no_request() {
    let Some((redis, origin)) = setting("a_killed_store_delays_no_request") else { return };
    let gateways = fleet(3, &(single(&redis.address(), &deadline()) + &limited(&origin)));
    let redis = std::sync::Mutex::new(redis);
    judge(&outage(&gateways, || redis.lock().unwrap().kill(), || redis.lock().unwrap().restart()));
}

#[test]
fn a_slow_store_delays_no_request() {
    let Some((redis, origin)) = setting("a_slow_store_delays_no_request") else { return };
    let link = SlowLink::to(&redis);
    let gateways = fleet(3, &(single(&link.address(), &deadline()) + &limited(&origin)));
    judge(&outage(&gateways, || link.delay(300), || link.delay(0)));
}

#[test]
fn a_read_only_store_is_unavailable() {
    let Some((redis, origin)) = setting("a_read_only_store_is_unavailable") else { return };
    let gateways = fleet(3, &(single(&redis.address(), &deadline()) + &limited(&origin)));
    // A replica of a server that does not exist.
    let begin = || drop(redis.command(&["REPLICAOF", "127.0.0.1", "1"]));
    judge(&outage(&gateways, begin, || drop(redis.command(&["REPLICAOF", "NO", "ONE"]))));
    gateways[0].log().wait(0, &["READONLY"]);
}

#[test]
fn sentinel_names_the_next_master() {
    let Some((mut master, origin)) = setting("sentinel_names_the_next_master") else { return };
    let port = master.port().to_string();
    let replica = Redis::start_with(|_| ["--replicaof", "127.0.0.1", &port].map(str::to_owned).to_vec());
    eventually("the replica follows", || {
        replica.command(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    });
    let sentinel = sentinel(&master);
    eventually("Sentinel knows the replica", || {
        (!sentinel.command(&["SENTINEL", "REPLICAS", "main"]).is_empty()).then_some(())
    });
    let yaml = format!(
        "stores: {{ fleet: {{ kind: redis, sentinel: {{ servers: ['{}'], master: main }}{} }} }}\n{}",
        sentinel.address(),
        deadline(),
        limited(&origin)
    );
    let gateways = fleet(3, &yaml);
    let (time, killed) = (Duration::from_secs(12), BEGIN);
    let samples = drive(&gateways, time, |start| {
        sleep_until(start, killed);
        master.kill();
        for gateway in &gateways {
            eventually("the store is up at the other server", || {
                (is_up(gateway) && gateway.log().count(0, "store became available") >= 2).then_some(())
            });
        }
    });
    assert!(samples.iter().all(|sample| matches!(sample.status, 200 | 429)));
    let (passed, limit) = (allowed(&samples, Duration::ZERO, time), most(time));
    assert!(passed <= 1.3 * limit && passed >= 0.8 * limit, "{passed} of {limit}");
    let after: Vec<_> = samples.iter().filter(|sample| sample.begun > killed + SECOND).collect();
    judge_times(&after);
    assert!(replica.command(&["KEYS", "moongate:*"]).contains("moongate:gateways"));
}

#[test]
fn without_a_store_the_setting_decides() {
    let origin = Origin::named("a");
    for (on_failure, passes) in [("local", 2), ("open", 20), ("closed", 0)] {
        // Nothing listens there.
        let gateway = Gateway::start(&format!(
            "{}routes: [{{ name: all, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, rate: 2/h, store: fleet }}] }}]\n",
            single("127.0.0.1:1", &format!(", on_failure: {on_failure}"))
        ));
        let passed = (0..20).filter(|_| gateway.get("/").status == 200).count();
        assert_eq!(passed, passes, "on_failure: {on_failure}");
    }
}

#[test]
fn an_error_of_the_server_is_a_lost_connection() {
    let origin = Origin::named("a");
    for error in [
        "LOADING Redis is loading the dataset in memory",
        "MOVED 3999 127.0.0.1:6381",
        "CLUSTERDOWN The cluster is down",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "OOM command not allowed when used memory > 'maxmemory'.",
    ] {
        let store = FakeStore::strict();
        let yaml =
            single(&store.address().to_string(), ", deadline: 1s, on_failure: open") + &limited(&origin);
        let gateway = Gateway::start(&yaml);
        eventually("the store is up", || is_up(&gateway).then_some(()));
        assert_eq!(gateway.get("/").status, 429);
        store.fail(Some(error));
        assert_eq!(gateway.get("/").status, 200, "{error}");
        assert!(!is_up(&gateway), "{error}");
        let begun = Instant::now();
        assert_eq!(gateway.get("/").status, 200);
        assert!(begun.elapsed() < SECOND, "no further request waits");
        let code = error.split(' ').next().unwrap();
        gateway.log().wait(0, &["store became unavailable store=fleet", code]);
        assert!(gateway.status()["stores"][0]["error"].as_str().unwrap().contains(code));
        // Its probes get the error too.
        sleep(3 * SECOND / 2);
        assert!(!is_up(&gateway), "{error}");
        store.fail(None);
        let back = Instant::now();
        eventually("the store is up again", || is_up(&gateway).then_some(()));
        assert!(back.elapsed() < 2 * SECOND, "{:?}", back.elapsed());
        assert_eq!(gateway.get("/").status, 429);
    }
}

#[test]
fn a_cluster_that_is_down_is_unavailable_until_it_is_whole_again() {
    if !is_installed("a_cluster_that_is_down_is_unavailable_until_it_is_whole_again") {
        return;
    }
    let (mut nodes, origin) = (cluster(), Origin::named("a"));
    let servers = nodes.iter().map(|node| format!("'{}'", node.address())).collect::<Vec<_>>().join(", ");
    let yaml = format!(
        "stores: {{ fleet: {{ kind: redis, cluster: [{servers}], deadline: 1s }} }}\n{}",
        limited(&origin)
    );
    let gateways = fleet(2, &yaml);
    nodes[1].kill();
    // Without one of three masters no slot is served, after the node timeout of 2 s.
    eventually("the store is down", || (!gateways.iter().any(is_up)).then_some(()));
    let begun = Instant::now();
    assert!((0..10).all(|_| matches!(gateways[0].get("/").status, 200 | 429)));
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    nodes[1].restart();
    eventually("the store is up again", || gateways.iter().all(is_up).then_some(()));
}
