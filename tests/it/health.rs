//! Health checks and their effects: traffic, status, and the policy for all-unhealthy upstreams.

use crate::support::raw::ask;
use crate::support::{Gateway, LIMIT, Next, Origin, eventually};

const HTTP: &str = "{ kind: http, path: /health, interval: 50ms, timeout: 500ms, unhealthy_after: 2 }";
const WEBSOCKET: &str =
    "{ kind: websocket, path: /health, interval: 50ms, timeout: 500ms, unhealthy_after: 2 }";
const TCP: &str = "{ kind: tcp, interval: 50ms, timeout: 500ms, unhealthy_after: 2 }";

fn cluster(check: &str, more: &str, origins: &[&Origin]) -> String {
    let endpoints: Vec<_> = origins.iter().map(ToString::to_string).collect();
    format!(
        "upstreams:
  all: {{ health_check: {check}, endpoints: [{}]{more} }}
routes: [{{ name: all, upstream: all }}]",
        endpoints.join(", ")
    )
}

fn only(gateway: &Gateway, name: &str) {
    assert!(gateway.names("/", 20).iter().all(|answer| answer == name), "only {name} answers");
}

fn goes_down_and_comes_back(check: &str, down: fn(&Origin), up: fn(&Origin)) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&cluster(check, "", &[&a, &b]));
    gateway.await_health("all", a.address(), "healthy");
    gateway.await_health("all", b.address(), "healthy");

    down(&a);
    gateway.await_health("all", a.address(), "unhealthy");
    assert_eq!(gateway.health("all", b.address()).as_deref(), Some("healthy"));
    only(&gateway, "b");
    let labels = [("upstream", "all"), ("endpoint", &*a.to_string())];
    assert_eq!(gateway.metrics().sum("moongate_upstream_healthy", &labels), 0.0);

    up(&a);
    gateway.await_health("all", a.address(), "healthy");
    assert!(gateway.names("/", 20).contains(&"a".to_owned()));
    assert_eq!(gateway.metrics().sum("moongate_upstream_healthy", &labels), 1.0);
}

#[test]
fn an_http_probe_takes_a_sick_backend_out_and_brings_it_back() {
    goes_down_and_comes_back(HTTP, Origin::sicken, Origin::recover);
}

#[test]
fn an_http_probe_that_hangs_is_a_failure_too() {
    let hanging = "{ kind: http, path: /health, interval: 50ms, timeout: 100ms, unhealthy_after: 1 }";
    goes_down_and_comes_back(hanging, Origin::fall_silent, Origin::recover);
}

#[test]
fn a_websocket_probe_makes_a_true_handshake() {
    goes_down_and_comes_back(WEBSOCKET, Origin::sicken, Origin::recover);
}

#[test]
fn a_tcp_probe_sees_a_dead_port() {
    goes_down_and_comes_back(TCP, Origin::die, Origin::revive);
}

#[test]
fn an_interim_response_is_no_verdict() {
    let final_status = |status: &str| {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let fields = "X-Field: value\r\n".repeat(200);
        Origin::fixed(format!("{interim}HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n"), Next::Close)
    };
    let (well, sick) = (final_status("204 No Content"), final_status("503 Service Unavailable"));
    let check = "{ kind: http, path: /probe, interval: 50ms, timeout: 500ms, unhealthy_after: 1 }";
    let gateway = Gateway::start(&cluster(check, "", &[&well, &sick]));
    gateway.await_health("all", well.address(), "healthy");
    gateway.await_health("all", sick.address(), "unhealthy");
}

#[test]
fn one_failed_probe_is_not_the_end() {
    let a = Origin::named("a");
    let patient = "{ kind: http, path: /health, interval: 20ms, timeout: 500ms, unhealthy_after: 60000 }";
    let gateway = Gateway::start(&cluster(patient, ", when_all_unhealthy: fail", &[&a]));
    gateway.await_health("all", a.address(), "healthy");
    a.sicken();
    let seen = a.probes();
    eventually("ten failed probes", || (a.probes() > seen + 10).then_some(()));
    assert_eq!(gateway.health("all", a.address()).as_deref(), Some("healthy"));
}

#[test]
fn a_new_endpoint_is_probed_before_it_gets_traffic() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    b.fall_silent();
    let check = "{ kind: http, path: /health, interval: 50ms, timeout: 300ms }";
    let gateway = Gateway::start(&cluster(check, "", &[&a]));
    gateway.await_health("all", a.address(), "healthy");
    gateway.reload(&cluster(check, "", &[&a, &b])).unwrap();
    only(&gateway, "a");
    assert_eq!(b.count(), 0, "nobody knows whether b is well");
    assert_ne!(gateway.health("all", b.address()).as_deref(), Some("healthy"));

    b.recover();
    eventually("b gets its share", || gateway.names("/", 4).contains(&"b".to_owned()).then_some(()));
}

#[test]
fn the_first_requests_wait_for_the_first_probe() {
    let a = Origin::named("a");
    a.fall_silent();
    // The process listens 5 s after its start although the probe has no response yet.
    let check = "{ kind: http, path: /health, interval: 1h, timeout: 20s }";
    let gateway = Gateway::start(&cluster(check, ", when_all_unhealthy: fail", &[&a]));
    assert_eq!(gateway.health("all", a.address()).as_deref(), Some("unknown"));
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(a.count(), 0, "no request before the first successful probe");
    a.recover();
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
}

#[test]
fn health_survives_a_reload() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&cluster(HTTP, "", &[&a, &b]));
    a.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    gateway.reload(&cluster(HTTP, ", retries: 1", &[&a, &b])).unwrap();
    assert_eq!(gateway.health("all", a.address()).as_deref(), Some("unhealthy"));
    only(&gateway, "b");
}

#[test]
fn all_unhealthy_serves_anyway_by_default_and_is_counted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&cluster(HTTP, "", &[&a, &b]));
    a.sicken();
    b.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    gateway.await_health("all", b.address(), "unhealthy");
    let names = gateway.names("/", 20);
    assert!(names.contains(&"a".to_owned()) && names.contains(&"b".to_owned()), "{names:?}");
    assert!(gateway.metrics().sum("moongate_upstream_all_unhealthy_total", &[("upstream", "all")]) >= 20.0);
}

#[test]
fn all_unhealthy_with_panic_fail_is_503() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&cluster(HTTP, ", when_all_unhealthy: fail", &[&a]));
    gateway.await_health("all", a.address(), "healthy");
    a.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    let request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let response = ask(gateway.web(), request);
    assert_eq!((response.status, &response.json()["error"]), (503, &"no_endpoint".into()));
    assert_eq!(a.count(), 0);
}

#[test]
fn refused_connects_put_an_endpoint_out_for_a_while() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: [{a}, {b}], passive_health: {{ failures: 2, eject_for: 1s }} }}
routes: [{{ upstream: all }}]"
    ));
    a.die();
    only(&gateway, "b");
    a.revive();
    let labels = [("upstream", "all"), ("endpoint", &*a.to_string())];
    let failures = gateway.metrics().sum("moongate_upstream_failures_total", &labels);
    assert!((2.0..=4.0).contains(&failures), "{failures} refused connects, then it was left alone");
    let start = std::time::Instant::now();
    eventually("a is tried again", || gateway.names("/", 4).contains(&"a".to_owned()).then_some(()));
    assert!(start.elapsed() < LIMIT / 4, "it stays out for about a second");
}

#[test]
fn a_backend_that_breaks_handshakes_is_put_out_too() {
    let broken = Origin::scripted("broken", |_, _| crate::support::Next::Close);
    let well = Origin::named("well");
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: [{broken}, {well}], passive_health: {{ failures: 2, eject_for: 1h }} }}
routes: [{{ upstream: all }}]"
    ));
    for _ in 0..12 {
        assert_eq!(crate::support::Socket::open(gateway.web(), "/ws").backend, "well");
    }
    assert!((2..=3).contains(&broken.count()), "{} handshakes reached it", broken.count());
}

crate::both_kinds!(
    an_http_probe_takes_a_sick_backend_out_and_brings_it_back,
    an_http_probe_that_hangs_is_a_failure_too,
    a_websocket_probe_makes_a_true_handshake,
    a_tcp_probe_sees_a_dead_port,
    an_interim_response_is_no_verdict,
    one_failed_probe_is_not_the_end,
    a_new_endpoint_is_probed_before_it_gets_traffic,
    the_first_requests_wait_for_the_first_probe,
    health_survives_a_reload,
    all_unhealthy_serves_anyway_by_default_and_is_counted,
    all_unhealthy_with_panic_fail_is_503,
    refused_connects_put_an_endpoint_out_for_a_while,
    a_backend_that_breaks_handshakes_is_put_out_too,
);
