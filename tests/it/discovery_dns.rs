//! Endpoints from host names and SRV records, by a name server that responds as the test says.

// Only Linux treats every address of 127.0.0.0/8 as local.
#![cfg(target_os = "linux")]

use crate::support::dns_server::{DnsServer, Record, Says, Type};
use crate::support::{Gateway, Origin, Socket, eventually, get, moongate};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const CHAT: &str = "chat.internal.";
const WS: &str = "_ws._tcp.chat.internal.";
const SERVFAIL: Says = Says::Code(2);

/// A gateway with one upstream. Its window of drains is short.
fn start(dns: &DnsServer, discovery: &str, upstream: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
upstreams: {{ chat: {{ discovery: {{ {discovery} }}, {upstream} }} }}
routes: [{{ upstream: chat, websocket: {{ drain_window: 1s }} }}]",
        dns.address()
    ))
}

/// Backends on one port of several addresses of the loopback network. Each test has a network of its own.
fn backends(network: u8, count: u8) -> Vec<Origin> {
    let address = |host: u8| IpAddr::V4(Ipv4Addr::new(127, 77, network, host));
    let first = Origin::named_at("b1", (address(1), 0).into());
    let port = first.address().port();
    let others = (2..=count).map(|host| Origin::named_at(&format!("b{host}"), (address(host), port).into()));
    [first].into_iter().chain(others).collect()
}

fn ips(backends: &[Origin]) -> Vec<IpAddr> {
    backends.iter().map(|backend| backend.address().ip()).collect()
}

fn port(backends: &[Origin]) -> u16 {
    backends[0].address().port()
}

fn by_dns(backends: &[Origin], more: &str) -> String {
    format!("kind: dns, name: {CHAT}, port: {}, {more}", port(backends))
}

fn endpoints(gateway: &Gateway) -> Vec<Value> {
    gateway.status()["upstreams"]["chat"]["endpoints"].as_array().unwrap().clone()
}

/// The addresses of the endpoints that are in use.
fn addresses(gateway: &Gateway) -> Vec<String> {
    let endpoints = endpoints(gateway).into_iter().filter(|endpoint| endpoint["draining"].is_null());
    let mut addresses: Vec<_> =
        endpoints.map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses
}

fn await_addresses(gateway: &Gateway, wanted: impl IntoIterator<Item = SocketAddr>) {
    let mut wanted: Vec<_> = wanted.into_iter().map(|address| address.to_string()).collect();
    wanted.sort();
    eventually("the endpoints of the name", || {
        let addresses = addresses(gateway);
        (addresses == wanted).then_some(())
    });
}

fn await_backends(gateway: &Gateway, backends: &[Origin]) {
    await_addresses(gateway, backends.iter().map(Origin::address));
}

fn discovery(gateway: &Gateway) -> Value {
    gateway.status()["upstreams"]["chat"]["discovery"].clone()
}

fn await_error(gateway: &Gateway, part: &str) {
    eventually(&format!("the status says {part:?}"), || {
        let shown = discovery(gateway);
        shown["error"].as_str().is_some_and(|error| error.contains(part)).then_some(())
    });
}

fn errors(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("moongate_source_errors_total", &[("reason", reason)])
}

fn srv(dns: &DnsServer, records: Vec<Record>) {
    dns.says(WS, Type::Srv, Says::Records(1, records));
}

#[test]
fn each_address_of_a_name_is_an_endpoint() {
    let backends = backends(1, 2);
    let dns = DnsServer::start();
    let v6: IpAddr = "::1".parse().unwrap();
    dns.addresses(CHAT, &[backends[0].address().ip(), v6]);
    let gateway = start(&dns, &by_dns(&backends, "hold: 0s"), "");
    await_addresses(&gateway, [backends[0].address(), (v6, port(&backends)).into()]);
    dns.addresses(CHAT, &ips(&backends));
    await_backends(&gateway, &backends);
    assert_eq!(gateway.generation(), 1);
    let mut names = gateway.names("/", 4);
    names.sort();
    assert_eq!(names, ["b1", "b1", "b2", "b2"]);
    let shown = discovery(&gateway);
    assert_eq!((&shown["source"], &shown["ready"]), (&"dns chat.internal.".into(), &2.into()), "{shown}");
    assert!(shown["error"].is_null() && shown["last_success"].as_u64().is_some(), "{shown}");
    assert_eq!(endpoints(&gateway)[0]["origin"], "dns chat.internal.");
}

#[test]
fn some_addresses_in_turn_close_no_websocket() {
    let backends = backends(2, 9);
    let dns = DnsServer::start();
    let sets = backends.chunks(3).map(|three| ips(three).into_iter().map(Record::address).collect());
    dns.says(CHAT, Type::A, Says::InTurn(1, sets.collect()));
    let gateway = start(&dns, &by_dns(&backends, "hold: 30s"), "");
    await_backends(&gateway, &backends);
    let mut sockets: Vec<_> = (0..27).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    for backend in &backends {
        backend.await_sockets(3);
    }
    // Every address is missing in two of three responses.
    let before = dns.asked(CHAT, Type::A);
    eventually("three rounds", || {
        sockets.iter_mut().for_each(|socket| socket.echo("still here"));
        (dns.asked(CHAT, Type::A) >= before + 9).then_some(())
    });
    assert_eq!(addresses(&gateway).len(), 9);
    assert!(discovery(&gateway)["absent"].as_u64().unwrap() >= 3, "{}", discovery(&gateway));
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn all_addresses_are_replaced_in_one_answer_and_through_an_empty_one() {
    for (network, between) in [(3, None), (4, Some(Says::Records(1, Vec::new()))), (5, Some(Says::Code(3)))] {
        let backends = backends(network, 18);
        let (old, new) = backends.split_at(9);
        let dns = DnsServer::start();
        dns.addresses(CHAT, &ips(old));
        let gateway = start(&dns, &by_dns(&backends, "hold: 5s, resolve: 1s"), "");
        await_backends(&gateway, old);
        let mut sockets: Vec<_> = (0..18).map(|_| Socket::open(gateway.web(), "/ws")).collect();
        for backend in old {
            backend.await_sockets(2);
        }
        if let Some(between) = between {
            dns.forget(CHAT);
            dns.says(CHAT, Type::A, between.clone());
            dns.says(CHAT, Type::Aaaa, between);
            await_error(&gateway, "the name has no addresses");
            assert_eq!(gateway.get("/").status, 200, "the last addresses are held");
            sockets.iter_mut().for_each(|socket| socket.echo("held"));
        }
        dns.addresses(CHAT, &ips(new));
        eventually("the new addresses", || {
            assert_eq!(gateway.get("/").status, 200);
            let addresses = addresses(&gateway);
            new.iter().all(|backend| addresses.contains(&backend.to_string())).then_some(())
        });
        await_backends(&gateway, new);
        for socket in &mut sockets {
            assert_eq!(socket.end(), Some(1012));
        }
        assert!(Socket::open(gateway.web(), "/ws").backend.starts_with('b'));
        assert!(discovery(&gateway)["error"].is_null());
    }
}

#[test]
fn an_answer_without_addresses_empties_the_upstream_after_the_hold() {
    let backends = backends(6, 1);
    let dns = DnsServer::start();
    dns.addresses(CHAT, &ips(&backends));
    let gateway = start(&dns, &by_dns(&backends, "hold: 1s"), "");
    await_backends(&gateway, &backends);
    let mark = gateway.log().mark();
    dns.forget(CHAT);
    await_error(&gateway, "the name has no addresses");
    gateway.log().wait(mark, &["discovery is incomplete; missing endpoints are held", "no addresses"]);
    eventually("the upstream is empty", || (gateway.get("/").status == 503).then_some(()));
    assert!(errors(&gateway, "not_found") >= 1.0);
    dns.addresses(CHAT, &ips(&backends));
    await_backends(&gateway, &backends);
    assert_eq!(gateway.get("/").text(), "b1");
}

#[test]
fn a_failure_keeps_the_endpoints_without_a_hold() {
    let backends = backends(7, 2);
    let dns = DnsServer::start();
    dns.addresses(CHAT, &ips(&backends));
    let gateway = start(&dns, &by_dns(&backends, "hold: 0s, resolve: 1s"), "");
    await_backends(&gateway, &backends);
    let mut socket = Socket::open(gateway.web(), "/ws");
    for (failure, reason) in [(SERVFAIL, "failed"), (Says::Code(5), "failed"), (Says::Silence, "timeout")] {
        let mark = gateway.log().mark();
        let before = errors(&gateway, reason);
        for kind in [Type::A, Type::Aaaa] {
            dns.says(CHAT, kind, failure.clone());
        }
        eventually("the failure is counted", || (errors(&gateway, reason) > before).then_some(()));
        if reason == "timeout" {
            gateway.log().wait(mark, &["discovery failed; last members kept"]);
        }
        await_error(&gateway, "A: ");
        assert_eq!(addresses(&gateway).len(), 2);
        socket.echo("still here");
        dns.addresses(CHAT, &ips(&backends));
        eventually("it works again", || discovery(&gateway)["error"].is_null().then_some(()));
    }
}

#[test]
fn a_failure_of_one_family_keeps_its_endpoints_and_the_other_changes() {
    let backends = backends(8, 2);
    let v6: SocketAddr = (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port(&backends)).into();
    let dns = DnsServer::start();
    dns.addresses(CHAT, &[backends[0].address().ip(), v6.ip()]);
    let gateway = start(&dns, &by_dns(&backends, "hold: 0s, resolve: 1s"), "");
    await_addresses(&gateway, [backends[0].address(), v6]);
    dns.addresses(CHAT, &[backends[1].address().ip()]);
    dns.says(CHAT, Type::Aaaa, SERVFAIL);
    await_addresses(&gateway, [backends[1].address(), v6]);
    await_error(&gateway, "AAAA: ");
    // A reload does not forget them.
    let text = fs::read_to_string(gateway.file()).unwrap();
    let asked = dns.asked(CHAT, Type::A);
    assert_eq!(gateway.reload_whole(&text.replace("resolve: 1s", "resolve: 2s")), Ok(2));
    eventually("lookups after the reload", || (dns.asked(CHAT, Type::A) >= asked + 3).then_some(()));
    assert_eq!(addresses(&gateway).len(), 2);
    dns.addresses(CHAT, &[backends[1].address().ip()]);
    await_addresses(&gateway, [backends[1].address()]);
    dns.says(CHAT, Type::A, SERVFAIL);
    dns.says(CHAT, Type::Aaaa, Says::Records(1, vec![Record::address(v6.ip())]));
    await_addresses(&gateway, [backends[1].address(), v6]);
    await_error(&gateway, "A: ");
}

#[test]
fn a_name_that_does_not_exist_at_the_start_is_an_empty_upstream() {
    let backends = backends(9, 1);
    let dns = DnsServer::start();
    let gateway = start(&dns, &by_dns(&backends, "resolve: 1s"), "");
    eventually("it is ready", || (get(gateway.admin(), "/readyz").status == 200).then_some(()));
    let response = gateway.get("/");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    await_error(&gateway, "the name has no addresses");
    dns.addresses(CHAT, &ips(&backends));
    await_backends(&gateway, &backends);
    assert_eq!(gateway.get("/").text(), "b1");
}

#[test]
fn a_truncated_response_is_completed_by_tcp_and_aliases_are_followed() {
    let backends = backends(10, 1);
    let dns = DnsServer::start();
    let all: Vec<IpAddr> = (1..=200).map(|host| Ipv4Addr::new(127, 77, 10, host).into()).collect();
    dns.says(CHAT, Type::A, Says::Records(1, vec![Record::alias("real.internal.")]));
    dns.says(
        "real.internal.",
        Type::A,
        Says::Truncated(1, all.iter().copied().map(Record::address).collect()),
    );
    let gateway = start(&dns, &by_dns(&backends, ""), "");
    await_addresses(&gateway, all.iter().map(|ip| (*ip, port(&backends)).into()));
}

#[test]
fn a_name_is_asked_for_again_before_its_ttl_ends_and_at_most_once_a_second() {
    let backends = backends(11, 1);
    let dns = DnsServer::start();
    for (ttl, resolve) in [(0, "1h"), (3600, "1s")] {
        dns.says(CHAT, Type::A, Says::Records(ttl, vec![Record::address(backends[0].address().ip())]));
        dns.says(CHAT, Type::Aaaa, Says::Records(ttl, Vec::new()));
        let gateway = start(&dns, &by_dns(&backends, &format!("resolve: {resolve}")), "");
        await_backends(&gateway, &backends);
        let (before, begun) = (dns.asked(CHAT, Type::A), Instant::now());
        eventually("four questions", || (dns.asked(CHAT, Type::A) >= before + 4).then_some(()));
        // The first may come at once, the others after 0.8 s at least.
        assert!(begun.elapsed() >= Duration::from_millis(2400), "{ttl}: {:?}", begun.elapsed());
    }
}

#[test]
fn the_next_name_server_is_asked_when_one_is_silent_or_fails() {
    let backends = backends(12, 1);
    let (silent, failing, good) = (DnsServer::start(), DnsServer::start(), DnsServer::start());
    for kind in [Type::A, Type::Aaaa] {
        silent.says(CHAT, kind, Says::Silence);
        failing.says(CHAT, kind, SERVFAIL);
    }
    good.addresses(CHAT, &ips(&backends));
    let servers = [&silent, &failing, &good].map(|server| format!("'{}'", server.address())).join(", ");
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: [{servers}] }}
upstreams: {{ chat: {{ discovery: {{ {} }} }} }}
routes: [{{ upstream: chat }}]",
        by_dns(&backends, "")
    ));
    await_backends(&gateway, &backends);
    assert!(discovery(&gateway)["error"].is_null());
    assert!(silent.asked(CHAT, Type::A) >= 1 && failing.asked(CHAT, Type::A) >= 1);
}

#[test]
fn srv_records_have_tiers_and_weights() {
    let backends: Vec<_> = ["a", "b", "c", "d"].map(Origin::named).into();
    let dns = DnsServer::start();
    let record = |index: usize, priority, weight| {
        let target = format!("{}.internal.", ["a", "b", "c", "d"][index]);
        dns.addresses(&target, &[backends[index].address().ip()]);
        Record::srv(priority, weight, backends[index].address().port(), &target)
    };
    srv(&dns, vec![record(0, 10, 20000), record(1, 10, 60000), record(2, 20, 0), record(3, 20, 0)]);
    let gateway = start(&dns, &format!("kind: srv, name: {WS}, hold: 0s, resolve: 1s"), "");
    await_backends(&gateway, &backends);
    let shown = |name: usize| {
        let endpoint = gateway.endpoint("chat", backends[name].address()).unwrap();
        (endpoint["tier"].as_u64().unwrap(), endpoint["weight"].as_u64().unwrap())
    };
    assert_eq!([0, 1, 2, 3].map(shown), [(0, 1), (0, 3), (1, 1), (1, 1)]);
    let count = |names: &[String], of: &str| names.iter().filter(|name| *name == of).count();
    let names = gateway.names("/", 80);
    let counts = ["a", "b", "c", "d"].map(|name| count(&names, name));
    assert!((18..=22).contains(&counts[0]) && counts[0] + counts[1] == 80, "{counts:?}");
    // Without the first priority, the second serves.
    srv(&dns, vec![record(2, 20, 0), record(3, 20, 0)]);
    await_backends(&gateway, &backends[2..]);
    let names = gateway.names("/", 10);
    assert_eq!((count(&names, "c"), count(&names, "d")), (5, 5));
    assert_eq!(gateway.generation(), 1);
    assert_eq!(discovery(&gateway)["source"], "srv _ws._tcp.chat.internal.");
}

#[test]
fn the_target_of_no_service_and_a_missing_name_empty_the_upstream_after_the_hold() {
    let backend = Origin::named("a");
    let dns = DnsServer::start();
    dns.addresses("a.internal.", &[backend.address().ip()]);
    let record = || Record::srv(1, 1, backend.address().port(), "a.internal.");
    srv(&dns, vec![record()]);
    let gateway = start(&dns, &format!("kind: srv, name: {WS}, hold: 1s, resolve: 1s"), "");
    for (says, error) in [
        (Says::Records(1, vec![Record::srv(0, 0, 0, ".")]), "its target is `.`"),
        (Says::Code(3), "the name has no SRV records"),
        (
            Says::Records(1, vec![Record::srv(1, 1, 80, "none.internal.")]),
            "the target `none.internal.` has no addresses",
        ),
    ] {
        await_addresses(&gateway, [backend.address()]);
        dns.says(WS, Type::Srv, says);
        await_error(&gateway, error);
        eventually("the upstream is empty", || (gateway.get("/").status == 503).then_some(()));
        srv(&dns, vec![record()]);
    }
    await_addresses(&gateway, [backend.address()]);
    assert!(discovery(&gateway)["error"].is_null());
}

#[test]
fn failures_of_srv_lookups_keep_the_endpoints() {
    let backends: Vec<_> = ["a", "b"].map(Origin::named).into();
    let dns = DnsServer::start();
    let names = ["a.internal.", "b.internal."];
    for (name, backend) in names.iter().zip(&backends) {
        dns.addresses(name, &[backend.address().ip()]);
    }
    let records = names.iter().zip(&backends);
    let records: Vec<_> =
        records.map(|(name, backend)| Record::srv(1, 1, backend.address().port(), name)).collect();
    srv(&dns, records.clone());
    let gateway = start(&dns, &format!("kind: srv, name: {WS}, hold: 0s, resolve: 1s"), "");
    await_backends(&gateway, &backends);
    dns.says(WS, Type::Srv, SERVFAIL);
    await_error(&gateway, "SRV: ");
    assert_eq!(addresses(&gateway).len(), 2);
    srv(&dns, records);
    dns.says(names[1], Type::A, SERVFAIL);
    await_error(&gateway, "A of `b.internal.`: ");
    assert_eq!(addresses(&gateway).len(), 2);
    // The other target changes all the same.
    dns.addresses(names[0], &[Ipv4Addr::new(127, 77, 13, 1).into()]);
    let port = backends[0].address().port();
    await_addresses(&gateway, [(Ipv4Addr::new(127, 77, 13, 1), port).into(), backends[1].address()]);
}

#[test]
fn additional_addresses_are_used() {
    let backend = Origin::named("a");
    let dns = DnsServer::start();
    // The name itself has no addresses.
    let records = vec![
        Record::srv(1, 1, backend.address().port(), "a.internal."),
        Record::address(backend.address().ip()).of("a.internal."),
    ];
    srv(&dns, records);
    let gateway = start(&dns, &format!("kind: srv, name: {WS}"), "");
    await_addresses(&gateway, [backend.address()]);
    let before = dns.asked(WS, Type::Srv);
    eventually("the records are asked for again", || (dns.asked(WS, Type::Srv) >= before + 3).then_some(()));
    assert_eq!(dns.asked("a.internal.", Type::A), 0);
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn another_target_at_an_address_is_another_endpoint() {
    let backends: Vec<_> = ["a", "b"].map(Origin::named).into();
    let dns = DnsServer::start();
    for name in ["a1.internal.", "a2.internal."] {
        dns.addresses(name, &[backends[0].address().ip()]);
    }
    dns.addresses("b.internal.", &[backends[1].address().ip()]);
    let record = |index: usize, name: &str| Record::srv(1, 1, backends[index].address().port(), name);
    srv(&dns, vec![record(0, "a1.internal."), record(1, "b.internal.")]);
    let gateway = start(&dns, &format!("kind: srv, name: {WS}, hold: 1h"), "");
    await_backends(&gateway, &backends);
    let mut sockets = [Socket::open(gateway.web(), "/ws"), Socket::open(gateway.web(), "/ws")];
    sockets.sort_by(|one, other| one.backend.cmp(&other.backend));
    srv(&dns, vec![record(0, "a2.internal."), record(1, "b.internal.")]);
    let [at_a, at_b] = &mut sockets;
    assert_eq!(at_a.end(), Some(1012));
    at_b.echo("not concerned");
    await_backends(&gateway, &backends);
}

#[test]
fn wrong_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    for (settings, message) in [
        ("kind: dns, name: chat.internal.", "port"),
        ("kind: dns, port: 80", "name"),
        ("kind: dns, name: '', port: 80", "invalid host name ``"),
        ("kind: dns, name: 'chat.internal:80', port: 80", "invalid host name `chat.internal:80`"),
        ("kind: dns, name: 10.0.0.1, port: 80", "invalid host name `10.0.0.1`"),
        ("kind: dns, name: chat.internal., port: 0", "invalid port `0`"),
        ("kind: dns, name: chat.internal., port: 80000", "port"),
        ("kind: dns, name: chat.internal., port: 80, resolve: 10ms", "`resolve` must be at least 1s"),
        ("kind: dns, name: chat.internal., port: 80, ttl: 1s", "ttl"),
        ("kind: srv", "name"),
        ("kind: srv, name: a..b", "invalid host name `a..b`"),
        ("kind: srv, name: _ws._tcp.chat.internal., port: 80", "port"),
        ("kind: srv, name: _ws._tcp.chat.internal., resolve: 0", "`resolve` must be at least 1s"),
    ] {
        let yaml =
            format!("upstreams: {{ a: {{ discovery: {{ {settings} }} }} }}\nroutes: [{{ upstream: a }}]\n");
        fs::write(&file, yaml).unwrap();
        let output = moongate(&["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{settings}: {said}");
        assert!(said.contains(message), "{settings}: {said}");
    }
}
