//! Tests of clusters as the gateway uses them: build, run, pick, rebuild.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod backups;
mod draining_sessions;
mod endpoint_limits;
mod identity;
mod ready;
mod slow_start;
mod taken_over;

use super::*;
use crate::config::WhenAllUnhealthy;
use crate::upstream::health::Proof;
use crate::upstream::testing::{kind, place, upstream};
use crate::upstream::{Health, MemberState, Reason};
use futures_util::FutureExt;
use http::Method;
use moongate_config::Period;
use moongate_sdk::Request;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn build(spec: &config::Upstream, prior: Option<&Arc<Cluster>>) -> Arc<Cluster> {
    Cluster::build("web", spec, &place(), prior, None).unwrap()
}

fn pick(cluster: &Cluster, tried: &TriedEndpoints) -> Result<Lease, NoEndpoint> {
    let headers = http::HeaderMap::new();
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    cluster.pick(&cluster.key(&request), tried, Duration::ZERO)
}

fn address(lease: &Lease) -> String {
    lease.endpoint().address().to_string()
}

fn health(cluster: &Cluster) -> Vec<Health> {
    cluster.status().endpoints.iter().map(|endpoint| endpoint.health).collect()
}

fn eject(cluster: &Cluster, port: &str) {
    let endpoint =
        cluster.endpoints().into_iter().find(|each| each.address().to_string().ends_with(port)).unwrap();
    let lease = Lease::new(endpoint, cluster.policy);
    for _ in 0..3 {
        lease.failed(Reason::Refused);
    }
}

/// A listener that accepts through its backlog alone: enough for tcp probes.
async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A task that is aborted on drop.
struct Running(tokio::task::JoinHandle<()>);
impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn started(cluster: &Arc<Cluster>) -> Running {
    let running = Running(tokio::spawn(Arc::clone(cluster).run()));
    tokio::time::timeout(Duration::from_secs(20), cluster.first_round()).await.unwrap();
    running
}

/// Waits for an effect of a background task.
async fn eventually(fact: impl Fn() -> bool) {
    let wait = async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the fact in time");
}

#[test]
fn equal_settings_give_the_same_cluster() {
    let spec = upstream(&["127.0.0.1:81", "127.0.0.1:82"]);
    let first = build(&spec, None);
    assert!(Arc::ptr_eq(&first, &build(&spec, Some(&first))));
    let other = Cluster::build("other", &spec, &place(), Some(&first), None).unwrap();
    assert!(!Arc::ptr_eq(&first, &other), "another upstream of equal settings is another");
    assert_ne!(first.endpoints()[0].token(), other.endpoints()[0].token());
}

#[test]
fn living_counts_and_health_survive_a_reload() {
    let first = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82"]), None);
    let leases: Vec<_> = (0..4).map(|_| pick(&first, &TriedEndpoints::new()).unwrap()).collect();
    eject(&first, ":81");
    let mut spec = upstream(&["127.0.0.1:80", "127.0.0.1:81*5", "127.0.0.1:82"]);
    spec.balance = Some(kind("least_connections", &[]));
    let second = build(&spec, Some(&first));
    let status = second.status().endpoints;
    assert_eq!(status.iter().map(|each| each.active).collect::<Vec<_>>(), [0, 2, 2]);
    assert!(status[1].ejected && status[1].health == Health::Unhealthy);
    assert_eq!(first.endpoints()[0].token(), second.endpoints()[1].token());
    drop(leases);
    assert!(second.status().endpoints.iter().all(|each| each.active == 0));
}

#[test]
fn an_endpoint_that_comes_back_finds_its_living_count() {
    let first = build(&upstream(&["127.0.0.1:81"]), None);
    let lease = pick(&first, &TriedEndpoints::new()).unwrap();
    let second = build(&upstream(&["127.0.0.1:82"]), Some(&first));
    let third = build(&upstream(&["127.0.0.1:83"]), Some(&second));
    let fourth = build(&upstream(&["127.0.0.1:81"]), Some(&third));
    assert_eq!(fourth.status().endpoints[0].active, 1);
    assert_eq!(fourth.endpoints()[0].token(), lease.endpoint().token());
    drop((first, second, third, lease));
    assert_eq!(fourth.status().endpoints[0].active, 0);
}

#[test]
fn another_health_check_starts_from_the_old_verdict_and_none_heals_all() {
    let mut spec = upstream(&["127.0.0.1:81"]);
    spec.health_check = Some(kind("tcp", &[]));
    let probed = build(&spec, None);
    assert_eq!(health(&probed), [Health::Unknown]);
    let plain = build(&upstream(&["127.0.0.1:81"]), Some(&probed));
    assert_eq!(health(&plain), [Health::Healthy]);
    assert_eq!(health(&probed), [Health::Unknown], "building changes nothing that serves");
    let again = build(&spec, Some(&plain));
    assert_eq!(health(&again), [Health::Healthy]);
    spec.endpoints.value.extend(upstream(&["127.0.0.1:82"]).endpoints.value);
    assert_eq!(health(&build(&spec, Some(&again))), [Health::Healthy, Health::Unknown]);
}

#[test]
fn what_was_tried_is_not_chosen_again() {
    for balance in ["round_robin", "random", "least_connections", "p2c", "consistent_hash", "sticky"] {
        let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83*0", "unix:/run/a"]);
        spec.balance = Some(kind(balance, &[]));
        let cluster = build(&spec, None);
        let (mut tried, mut seen) = (TriedEndpoints::new(), Vec::new());
        for _ in 0..3 {
            let lease = pick(&cluster, &tried).unwrap();
            tried.add(lease.endpoint());
            seen.push(address(&lease));
        }
        seen.sort_unstable();
        assert_eq!(seen, ["127.0.0.1:81", "127.0.0.1:82", "unix:/run/a"], "{balance}");
        assert_eq!(pick(&cluster, &tried).unwrap_err(), NoEndpoint::Tried, "{balance}");
    }
}

#[test]
fn three_refusals_put_an_endpoint_out_and_the_others_share() {
    let cluster = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]), None);
    eject(&cluster, ":82");
    let mut shares = [0; 3];
    for _ in 0..100 {
        let lease = pick(&cluster, &TriedEndpoints::new()).unwrap();
        shares[usize::from(address(&lease).as_bytes()[11] - b'1')] += 1;
    }
    assert_eq!(shares, [50, 0, 50]);
    assert_eq!(cluster.all_unhealthy_picks(), 0);
}

#[test]
fn p2c_serves_with_the_endpoints_that_are_left() {
    let lines: Vec<_> = (1..=40).map(|n| format!("127.0.0.1:{}", 8000 + n)).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let mut spec = upstream(&lines);
    spec.balance = Some(kind("p2c", &[]));
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    let cluster = build(&spec, None);
    let chosen = |rounds: usize| {
        let found: std::collections::BTreeSet<_> =
            (0..rounds).map(|_| address(&pick(&cluster, &TriedEndpoints::new()).unwrap())).collect();
        Vec::from_iter(found)
    };
    assert!(chosen(400).len() > 30, "all get requests");
    (3..=40).for_each(|n| eject(&cluster, &format!(":{}", 8000 + n)));
    assert_eq!(chosen(200), ["127.0.0.1:8001", "127.0.0.1:8002"], "random draws would miss them");
    eject(&cluster, ":8001");
    assert_eq!(chosen(50), ["127.0.0.1:8002"]);
    assert_eq!(cluster.all_unhealthy_picks(), 0);
    eject(&cluster, ":8002");
    assert!(chosen(400).len() > 30, "`when_all_unhealthy: any`");
    assert_eq!(cluster.all_unhealthy_picks(), 400);
}

#[test]
fn when_all_are_unhealthy_the_setting_decides() {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82*0"]);
    let any = build(&spec, None);
    eject(&any, ":81");
    assert_eq!(address(&pick(&any, &TriedEndpoints::new()).unwrap()), "127.0.0.1:81");
    assert_eq!(any.all_unhealthy_picks(), 1);
    spec.when_all_unhealthy = WhenAllUnhealthy::Fail;
    let fail = build(&spec, Some(&any));
    assert_eq!(pick(&fail, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Unhealthy);
    let lease = Lease::new(Arc::clone(&fail.endpoints()[0]), fail.policy);
    lease.record_latency(Duration::from_millis(1));
    assert!(pick(&fail, &TriedEndpoints::new()).is_ok(), "a response ends the ejection");
    assert_eq!(
        pick(&build(&upstream(&["127.0.0.1:81*0"]), None), &TriedEndpoints::new()).unwrap_err(),
        NoEndpoint::Empty
    );
}

#[test]
fn a_client_without_a_cookie_gets_one_and_comes_back() {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]);
    spec.balance = Some(kind("sticky", &[("secret", "s3cret")]));
    let cluster = build(&spec, None);
    let mut headers = http::HeaderMap::new();
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    let first = cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
    let line = cluster.sticky_cookie(&first, &key).unwrap().0.to_str().unwrap().to_owned();
    headers.insert(http::header::COOKIE, line.split(';').next().unwrap().parse().unwrap());
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
    let key = cluster.key(&request);
    for _ in 0..9 {
        let next = cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
        assert_eq!(next.endpoint().token(), first.endpoint().token());
        assert_eq!(cluster.sticky_cookie(&next, &key), None);
    }
    let mut tried = TriedEndpoints::new();
    tried.add(first.endpoint());
    let moved = cluster.pick(&key, &tried, Duration::ZERO).unwrap();
    assert!(cluster.sticky_cookie(&moved, &key).is_some());
}

#[test]
fn a_request_takes_one_turn_however_often_it_is_sent() {
    let cluster = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]), None);
    let first = || address(&pick(&cluster, &TriedEndpoints::new()).unwrap());
    assert_eq!(first(), "127.0.0.1:81");
    let mut closed = TriedEndpoints::new();
    closed.repeat();
    let mut failed = TriedEndpoints::new();
    failed.add(pick(&cluster, &closed).unwrap().endpoint());
    pick(&cluster, &failed).unwrap();
    assert_eq!((first(), first()), ("127.0.0.1:82".to_owned(), "127.0.0.1:83".to_owned()));
}

#[test]
fn of_several_cookies_with_one_name_a_living_one_counts() {
    let mut spec = upstream(&["127.0.0.1:81", "127.0.0.1:82"]);
    spec.balance = Some(kind("sticky", &[("secret", "s3cret"), ("cookie", "seat")]));
    let cluster = build(&spec, None);
    let none = http::HeaderMap::new();
    let request = RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &none };
    let lease = cluster.pick(&cluster.key(&request), &TriedEndpoints::new(), Duration::ZERO).unwrap();
    let line = cluster.sticky_cookie(&lease, &cluster.key(&request)).unwrap().0.to_str().unwrap().to_owned();
    let valid = line.split(';').next().unwrap();
    for lines in [
        &[format!("seat=stale; {valid}")][..],
        &[format!("{valid}; seat=stale")],
        &["seat=; seat=other".to_owned(), format!("x=y; {valid}")],
    ] {
        let mut headers = http::HeaderMap::new();
        for line in lines {
            headers.append(http::header::COOKIE, line.parse().unwrap());
        }
        let request =
            RequestView { request: Request::internal(&Method::GET, "/", CLIENT), headers: &headers };
        for _ in 0..4 {
            let key = cluster.key(&request);
            let again = cluster.pick(&key, &TriedEndpoints::new(), Duration::ZERO).unwrap();
            assert_eq!(again.endpoint().token(), lease.endpoint().token(), "{lines:?}");
            assert_eq!(cluster.sticky_cookie(&again, &key), None, "{lines:?}");
        }
        assert_eq!(cluster.affinity(&headers, Duration::ZERO), Affinity::Endpoint, "{lines:?}");
    }
    assert_eq!(cluster.affinity(&none, Duration::ZERO), Affinity::None);
}

#[tokio::test]
async fn a_draft_that_is_refused_changes_nothing_of_the_endpoints_that_serve() {
    let serving = build(&upstream(&["web.test:81"]), None);
    serving.source.learn("web.test", 81, &["127.0.0.1:81".parse().unwrap()]);
    serving.engine.update().await.unwrap();
    let host = |cluster: &Cluster| cluster.endpoints()[0].host().map(|host| host.to_string());
    let lease = pick(&serving, &TriedEndpoints::new()).unwrap();
    for (written, expected) in [("127.0.0.1:81", None), ("other.test:81", Some("other.test"))] {
        let draft = build(&upstream(&[written]), Some(&serving));
        draft.source.learn("other.test", 81, &["127.0.0.1:81".parse().unwrap()]);
        draft.engine.update().await.unwrap();
        assert_eq!(host(&draft).as_deref(), expected, "{written}");
        assert_eq!(host(&serving).as_deref(), Some("web.test"), "{written}");
        // The endpoint is the same instance.
        let endpoint = &draft.endpoints()[0];
        assert_eq!((endpoint.token(), endpoint.active()), (lease.endpoint().token(), 1));
    }
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let mut spec = upstream(&["nothing", "127.0.0.1:81", "127.0.0.1:81", "127.0.0.1:0"]);
    spec.balance = Some(kind("least_conections", &[]));
    spec.health_check = Some(kind("htp", &[]));
    let problems = Cluster::build("web", &spec, &place(), None, None).unwrap_err();
    assert!(problems.0.iter().all(|problem| problem.place.is_some()));
    assert!(
        problems
            .0
            .iter()
            .filter_map(|problem| problem.label.as_deref())
            .any(|label| label.contains("least_connections"))
    );
    assert_eq!(problems.0.len(), 5, "{problems:?}");
    let empty = Cluster::build("web", &upstream(&[]), &place(), None, None).unwrap_err();
    assert_eq!(empty.0.len(), 1);
    assert_eq!(build(&upstream(&["127.0.0.1:81*0"]), None).advice().len(), 1, "a warning refuses nothing");
}

#[tokio::test]
async fn a_new_endpoint_is_probed_before_it_gets_traffic() {
    let (_listener, up) = listening().await;
    let (closed, down) = listening().await;
    drop(closed);
    let mut spec = upstream(&[&up, &down]);
    spec.health_check = Some(kind("tcp", &[("interval", "20ms")]));
    spec.when_all_unhealthy = WhenAllUnhealthy::Fail;
    let cluster = build(&spec, None);
    assert_eq!(pick(&cluster, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Unhealthy);
    let _running = started(&cluster).await;
    for _ in 0..10 {
        assert_eq!(address(&pick(&cluster, &TriedEndpoints::new()).unwrap()), up);
    }
    let listener = TcpListener::bind(&down).await.unwrap();
    eventually(|| health(&cluster) == [Health::Healthy; 2]).await;
    drop(listener);
    eventually(|| health(&cluster).contains(&Health::Unhealthy)).await;
}

#[tokio::test]
async fn requests_wait_for_the_first_probe_where_no_endpoint_is_healthy() {
    let (listener, address) = listening().await;
    let mut spec = upstream(&[&address]);
    spec.health_check =
        Some(kind("http", &[("path", "/"), ("host", "a"), ("timeout", "20s"), ("interval", "1h")]));
    let cluster = build(&spec, None);
    let waiting = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move {
            cluster.await_first_probe().await;
            health(&cluster)
        }
    });
    let _running = Running(tokio::spawn(Arc::clone(&cluster).run()));
    let (mut probe, _) = listener.accept().await.unwrap();
    assert!(!waiting.is_finished(), "the probe has no response yet");
    probe.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(waiting.await.unwrap(), [Health::Healthy]);
    // A healthy endpoint is enough: a newcomer beside it is not waited for.
    spec.endpoints.value.extend(upstream(&["127.0.0.1:1"]).endpoints.value);
    let next = build(&spec, Some(&cluster));
    assert_eq!(health(&next).len(), 2);
    assert!(next.await_first_probe().now_or_never().is_some());
}

#[tokio::test]
async fn the_wait_for_a_first_probe_ends_at_the_timeout_of_one() {
    for (policy, found) in [(WhenAllUnhealthy::Any, true), (WhenAllUnhealthy::Fail, false)] {
        let mut spec = upstream(&["127.0.0.1:81"]);
        spec.health_check = Some(kind("tcp", &[("timeout", "20ms")]));
        spec.when_all_unhealthy = policy;
        // It does not run, so no probe ever ends.
        let cluster = build(&spec, None);
        cluster.await_first_probe().await;
        assert_eq!(health(&cluster), [Health::Unknown]);
        assert_eq!(pick(&cluster, &TriedEndpoints::new()).is_ok(), found);
    }
}

#[test]
fn nothing_is_waited_for_without_a_health_check_or_after_a_failed_probe() {
    let plain = build(&upstream(&["127.0.0.1:81"]), None);
    assert!(plain.await_first_probe().now_or_never().is_some());
    let mut spec = upstream(&["127.0.0.1:81"]);
    spec.health_check = Some(kind("tcp", &[]));
    let cluster = build(&spec, None);
    let thresholds = cluster.schedule.unwrap().thresholds;
    cluster.endpoints()[0].probed(false, Proof::Connect, thresholds);
    assert!(cluster.await_first_probe().now_or_never().is_some());
}

#[tokio::test]
async fn a_probe_that_hangs_ends_at_its_timeout() {
    // Accepted by the backlog, without a response.
    let (_listener, silent) = listening().await;
    let mut spec = upstream(&[&silent]);
    spec.health_check = Some(kind("websocket", &[("timeout", "50ms"), ("interval", "1h")]));
    let cluster = build(&spec, None);
    let _running = started(&cluster).await;
    assert_eq!(health(&cluster), [Health::Unhealthy]);
}

#[tokio::test]
async fn a_good_probe_ends_an_ejection() {
    let (_listener, up) = listening().await;
    let mut spec = upstream(&[&up]);
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    spec.health_check = Some(kind("tcp", &[("interval", "20ms")]));
    let cluster = build(&spec, None);
    let _running = started(&cluster).await;
    eject(&cluster, "");
    eventually(|| health(&cluster) == [Health::Healthy]).await;
}

#[tokio::test]
async fn host_names_are_resolved_in_the_background() {
    let (listener, _) = listening().await;
    let name = format!("localhost:{}", listener.local_addr().unwrap().port());
    let mut spec = upstream(&[&name]);
    spec.health_check = Some(kind("tcp", &[("interval", "1h")]));
    let cluster = build(&spec, None);
    assert_eq!(pick(&cluster, &TriedEndpoints::new()).unwrap_err(), NoEndpoint::Empty);
    let _running = started(&cluster).await;
    let lease = pick(&cluster, &TriedEndpoints::new()).unwrap();
    assert_eq!(lease.endpoint().health(), Health::Healthy);
    spec.retries = 7;
    let reloaded = build(&spec, Some(&cluster));
    assert_eq!(reloaded.status(), cluster.status(), "a reload starts with what the name stood for");
}

#[tokio::test]
async fn a_cluster_without_background_work_ends_at_once() {
    let cluster = build(&upstream(&["127.0.0.1:81"]), None);
    assert!(!cluster.is_busy());
    cluster.first_round().await;
    Arc::clone(&cluster).run().await;
}

#[tokio::test]
async fn a_living_count_survives_a_change_of_membership() {
    let mut spec = upstream(&["web.test:80"]);
    spec.health_check = Some(kind("tcp", &[("interval", "1h")]));
    let cluster = build(&spec, None);
    let (here, there) = ("127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap());
    let become_of = async |addresses: Vec<std::net::SocketAddr>| {
        cluster.source.learn("web.test", 80, &addresses);
        cluster.source.end_hold();
        cluster.engine.update().await.unwrap();
    };
    become_of(vec![here]).await;
    let lease = pick(&cluster, &TriedEndpoints::new()).unwrap();
    lease.endpoint().probed(true, Proof::Handshake, cluster.schedule.unwrap().thresholds);
    become_of(vec![here, there]).await;
    assert_eq!(
        health(&cluster),
        [Health::Healthy, Health::Unknown],
        "an endpoint that stays keeps its health"
    );
    become_of(vec![there]).await;
    assert_eq!(cluster.endpoints().len(), 1);
    let left = &cluster.status().endpoints[1];
    assert_eq!((left.draining, left.active), (Some(Leaving::Absent), 1), "it is seen while it is in use");
    become_of(vec![here]).await;
    assert_eq!(cluster.endpoints()[0].token(), lease.endpoint().token());
    assert_eq!(cluster.status().endpoints[0].active, 1);
    assert_eq!(health(&cluster), [Health::Unknown], "an endpoint that returns is probed first");
}

#[tokio::test]
async fn an_address_that_a_name_has_no_longer_is_held() {
    let cluster = build(&upstream(&["web.test:80"]), None);
    let (here, there) = ("127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap());
    for addresses in [vec![here], vec![there], vec![]] {
        cluster.source.learn("web.test", 80, &addresses);
        cluster.engine.update().await.unwrap();
    }
    let states: Vec<_> = cluster.status().endpoints.iter().map(|each| each.state).collect();
    assert_eq!(states, [Some(MemberState::Absent); 2]);
    assert!(pick(&cluster, &TriedEndpoints::new()).is_ok());
    cluster.source.end_hold();
    cluster.engine.update().await.unwrap();
    assert!(cluster.endpoints().is_empty());
}
