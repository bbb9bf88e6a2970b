//! Backups, through the real gateway: endpoints that are selected only while no other one is available.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, eventually};

const KINDS: [&str; 6] =
    ["round_robin", "random", "least_connections", "p2c", "{ kind: consistent_hash, key: path }", "sticky"];

/// An upstream of `first` and the backup `spare`, with a passive health that is off.
fn file(first: &Origin, spare: &Origin, more: &str) -> String {
    format!(
        "upstreams:
  all:
    endpoints: [{{ address: '{spare}', backup: true }}, {first}]
    passive_health: {{ failures: 0 }}
    {more}
routes: [{{ upstream: all }}]"
    )
}

fn only(gateway: &Gateway, name: &str, case: &str) {
    for n in 0..10 {
        assert_eq!(gateway.get(&format!("/{n}")).text(), name, "{case}");
    }
}

#[test]
fn a_backup_gets_requests_only_after_the_other_endpoint_failed() {
    for balance in KINDS {
        let (first, spare) = (Origin::named("first"), Origin::named("spare"));
        let gateway = Gateway::start(&file(&first, &spare, &format!("balance: {balance}")));
        only(&gateway, "first", balance);
        assert_eq!(spare.connections(), 0, "{balance}");
        first.die();
        only(&gateway, "spare", balance);
        assert_eq!(Socket::open(gateway.web(), "/ws").backend, "spare", "{balance}");
        first.revive();
        only(&gateway, "first", balance);
        assert_eq!(Socket::open(gateway.web(), "/ws").backend, "first", "{balance}");
    }
}

#[test]
fn probes_decide_and_a_websocket_stays_at_the_backup() {
    let (first, spare) = (Origin::named("first"), Origin::named("spare"));
    let check = "health_check: { kind: http, path: /health, interval: 50ms, timeout: 10s, healthy_after: 1, unhealthy_after: 1 }";
    let gateway = Gateway::start(&file(&first, &spare, check));
    only(&gateway, "first", "healthy");
    first.sicken();
    gateway.await_health("all", first.address(), "unhealthy");
    only(&gateway, "spare", "unhealthy");
    let mut socket = Socket::open(gateway.web(), "/ws");
    assert_eq!(socket.backend, "spare");
    first.recover();
    gateway.await_health("all", first.address(), "healthy");
    only(&gateway, "first", "recovered");
    socket.echo("still at the backup");
    assert_eq!(spare.sockets(), 1);
    let status = gateway.endpoint("all", spare.address()).unwrap();
    assert_eq!((&status["tier"], &status["active"]), (&1.into(), &1.into()));
}

#[test]
fn a_draining_endpoint_gives_its_clients_to_the_backup() {
    let (first, spare) = (Origin::named("first"), Origin::named("spare"));
    let gateway = Gateway::start(&file(&first, &spare, ""));
    only(&gateway, "first", "before");
    let marked = file(&first, &spare, "")
        .replace(&format!(", {first}]"), &format!(", {{ address: '{first}', drain: true }}]"));
    gateway.reload(&marked).unwrap();
    only(&gateway, "spare", "drained");
    gateway.reload(&file(&first, &spare, "slow_start: 1h")).unwrap();
    only(&gateway, "first", "alone in its tier, a new endpoint gets everything");
}

#[test]
fn a_full_endpoint_gives_what_is_above_its_limit_to_the_backup() {
    let (first, spare) = (Origin::named("first"), Origin::named("spare"));
    let limited = file(&first, &spare, "")
        .replace(&format!(", {first}]"), &format!(", {{ address: '{first}', max_connections: 2 }}]"));
    let gateway = Gateway::start(&limited);
    let mut sockets: Vec<_> = (0..3).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let backends: Vec<_> = sockets.iter().map(|socket| socket.backend.as_str()).collect();
    assert_eq!(backends, ["first", "first", "spare"]);
    sockets.remove(0).close();
    eventually("the closed one is not counted", || {
        (gateway.active("all", first.address()) == Some(1)).then_some(())
    });
    assert_eq!(Socket::open(gateway.web(), "/ws").backend, "first");
}

#[test]
fn a_sticky_client_of_the_backup_returns_with_a_new_cookie() {
    let (first, spare) = (Origin::named("first"), Origin::named("spare"));
    let gateway =
        Gateway::start(&file(&first, &spare, "balance: { kind: sticky, secret: 'between the two of us' }"));
    first.die();
    let response = gateway.get("/");
    let cookie = response.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let again = || {
        ask(
            gateway.web(),
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"),
        )
    };
    let stays = again();
    assert_eq!((stays.text().as_str(), stays.field("set-cookie")), ("spare", None));
    first.revive();
    let moved = again();
    assert_eq!(moved.text(), "first");
    assert!(moved.field("set-cookie").is_some());
}

crate::both_kinds!(
    a_backup_gets_requests_only_after_the_other_endpoint_failed,
    probes_decide_and_a_websocket_stays_at_the_backup,
    a_draining_endpoint_gives_its_clients_to_the_backup,
    a_full_endpoint_gives_what_is_above_its_limit_to_the_backup,
    a_sticky_client_of_the_backup_returns_with_a_new_cookie,
);
