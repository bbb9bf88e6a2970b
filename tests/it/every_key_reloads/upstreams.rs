//! `upstreams`: endpoints and their choice after failures.

use super::loaded_gateway::{File, LoadedGateway};
use super::shared_checks::check_resolver;
use super::{Case, case};
use crate::support::name_server::{NameServer, Says};
use crate::support::{Origin, eventually};
use std::net::Ipv4Addr;

pub(super) const CASES: &[Case] = &[
    case(&["upstreams", "upstreams.endpoints"], endpoints),
    case(&["upstreams.endpoints.address"], address),
    case(
        &[
            "upstreams.discovery",
            "upstreams.discovery.kind",
            "upstreams.discovery.file",
            "upstreams.discovery.file.path",
        ],
        discovery,
    ),
    case(&["upstreams.discovery.hold"], hold),
    case(&["upstreams.on_removal"], on_removal),
    case(&["upstreams.endpoints.weight"], weight),
    case(&["upstreams.endpoints.drain"], drain),
    case(&["upstreams.endpoints.backup"], backup),
    case(&["upstreams.endpoints.max_connections"], max_connections),
    case(&["upstreams.passive_health"], |gateway| {
        check_ejection(gateway, ["", "failures: 1, eject_for: 1h"]);
    }),
    case(&["upstreams.passive_health.failures"], |gateway| {
        check_ejection(gateway, ["failures: 0, eject_for: 1h", "failures: 1, eject_for: 1h"]);
    }),
    case(&["upstreams.passive_health.eject_for"], |gateway| {
        check_ejection(gateway, ["failures: 1, eject_for: 0s", "failures: 1, eject_for: 1h"]);
    }),
    case(&["upstreams.when_all_unhealthy"], when_all_unhealthy),
    case(&["upstreams.slow_start"], slow_start),
    case(&["upstreams.retries"], retries),
    case(&["upstreams.resolve"], resolve),
    case(&["upstreams.resolver"], resolver),
];

/// How many of twenty requests on one connection `name` gets.
pub(super) fn share(gateway: &LoadedGateway, name: &str) -> usize {
    gateway.gateway().names("/case", 20).iter().filter(|one| *one == name).count()
}

fn endpoints(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (endpoints, expected) in [(&[&a as _][..], 20), (&[&b as _], 0), (&[&a as _, &b as _], 10)] {
        gateway.reload(&File::upstream(endpoints, "", ""));
        assert_eq!(share(gateway, "a"), expected);
    }
}

/// An upstream with these entries.
fn entries(entries: &[String], more: &str) -> File {
    File::default()
        .and_upstream("case", format!("endpoints: [{}]", entries.join(", ")))
        .and_route(format!("name: case, path: /case, upstream: case, {more}"))
}

fn address(gateway: &LoadedGateway) {
    for name in ["a", "b"] {
        let origin = Origin::named(name);
        gateway.reload(&entries(&[format!("{{ address: '{origin}', weight: 2 }}")], ""));
        assert_eq!(gateway.get("/case").text(), name);
    }
}

/// A list that `discovery` reads, in a file beside the configuration.
fn listed(gateway: &LoadedGateway, name: &str, origins: &[&Origin]) {
    let text: String = origins.iter().map(|origin| format!("- {origin}\n")).collect();
    let folder = gateway.gateway().file().parent().unwrap().to_owned();
    std::fs::write(folder.join("part"), if text.is_empty() { "[]".to_owned() } else { text }).unwrap();
    std::fs::rename(folder.join("part"), folder.join(name)).unwrap();
}

fn discovered(name: &str, hold: &str, more: &str) -> File {
    File::default()
        .and_upstream("case", format!("discovery: {{ kind: file, path: {name}, {hold} }}, {more}"))
        .and_route("name: case, path: /case, upstream: case, websocket: { drain_window: 0s }")
}

fn discovery(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    listed(gateway, "one.list", &[&a]);
    listed(gateway, "two.list", &[&b]);
    gateway.reload(&discovered("one.list", "", ""));
    assert_eq!(gateway.get("/case").text(), "a");
    gateway.reload(&discovered("two.list", "", ""));
    eventually("the other file is read", || (share(gateway, "b") == 20).then_some(()));
    gateway.reload(&entries(&[a.to_string()], ""));
    assert_eq!(gateway.get("/case").text(), "a");
}

fn hold(gateway: &LoadedGateway) {
    let a = Origin::named("a");
    let absent = |count: u64| {
        eventually("endpoints that are not listed any more", || {
            let status = gateway.gateway().status();
            (status["upstreams"]["case"]["discovery"]["absent"] == count).then_some(())
        });
    };
    listed(gateway, "hold.list", &[&a]);
    gateway.reload(&discovered("hold.list", "hold: 1h", ""));
    assert_eq!(gateway.get("/case").text(), "a");
    listed(gateway, "hold.list", &[]);
    absent(1);
    assert_eq!(gateway.get("/case").text(), "a");
    gateway.reload(&discovered("hold.list", "hold: 0s", ""));
    absent(0);
    assert_eq!(gateway.get("/case").status, 503);
}

fn on_removal(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    listed(gateway, "removal.list", &[&a]);
    gateway.reload(&discovered("removal.list", "", "on_removal: keep"));
    let mut socket = gateway.open("/case").unwrap();
    listed(gateway, "removal.list", &[&b]);
    eventually("the endpoint is replaced", || (share(gateway, "b") == 20).then_some(()));
    socket.echo("kept");
    gateway.reload(&discovered("removal.list", "", "on_removal: drain"));
    assert_eq!(socket.end(), Some(1012));
}

fn weight(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (weight, expected) in [(1, 10), (3, 15), (0, 0)] {
        gateway.reload(&entries(&[format!("{{ address: '{a}', weight: {weight} }}"), b.to_string()], ""));
        assert_eq!(share(gateway, "a"), expected, "{weight}");
    }
}

fn backup(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (backup, expected) in [(false, 10), (true, 0), (false, 10)] {
        gateway.reload(&entries(&[format!("{{ address: '{a}', backup: {backup} }}"), b.to_string()], ""));
        assert_eq!(share(gateway, "a"), expected, "{backup}");
    }
}

fn max_connections(gateway: &LoadedGateway) {
    let a = Origin::named("a");
    let mut sockets = Vec::new();
    for limit in [1, 2, 0] {
        gateway.reload(&entries(&[format!("{{ address: '{a}', max_connections: {limit} }}")], ""));
        sockets.push(gateway.open("/case").unwrap());
        let further = gateway.open("/case").map(|socket| socket.backend.clone());
        assert_eq!(further, if limit == 0 { Ok("a".to_owned()) } else { Err(503) }, "{limit}");
    }
    sockets.iter_mut().for_each(|socket| socket.echo("reloads close none"));
}

fn drain(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let with = |drain: bool| {
        let endpoints =
            [format!("{{ address: '{a}', drain: {drain} }}"), format!("{{ address: '{b}', weight: 0 }}")];
        entries(&endpoints, "websocket: { drain_window: 0s }")
    };
    gateway.reload(&with(false));
    let mut socket = gateway.open("/case").unwrap();
    assert_eq!(socket.backend, "a");
    gateway.reload(&with(true));
    assert_eq!(socket.end(), Some(1012));
    gateway.reload(&with(false));
    assert_eq!(gateway.get("/case").text(), "a");
}

/// A backend that refuses connections is ejected after the second setting, not after the first.
fn check_ejection(gateway: &LoadedGateway, settings: [&str; 2]) {
    for (settings, expected) in settings.into_iter().zip([false, true]) {
        let dead = Origin::named("dead");
        dead.die();
        let upstream = format!("retries: 0, passive_health: {{ {settings} }}");
        gateway.reload(&File::upstream(&[&dead], upstream, ""));
        for _ in 0..2 {
            assert_eq!(gateway.get("/case").status, 502);
        }
        let endpoint = &gateway.gateway().status()["upstreams"]["case"]["endpoints"][0];
        assert_eq!(endpoint["address"], dead.to_string());
        assert_eq!(endpoint["ejected"], expected, "{settings}");
    }
}

fn when_all_unhealthy(gateway: &LoadedGateway) {
    let sick = Origin::named("sick");
    sick.sicken();
    for (setting, status) in [("any", 200), ("fail", 503), ("any", 200)] {
        let check = "health_check: { kind: http, path: /health, interval: 20ms, unhealthy_after: 1 }";
        gateway.reload(&File::upstream(&[&sick], format!("{check}, when_all_unhealthy: {setting}"), ""));
        gateway.gateway().await_health("case", sick.address(), "unhealthy");
        assert_eq!(gateway.get("/case").status, status, "{setting}");
    }
}

fn slow_start(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    // The first endpoints of an upstream are not new, unless an earlier configuration has that upstream.
    gateway.reload(&File::default());
    gateway.reload(&File::upstream(&[&a], "", ""));
    assert_eq!(share(gateway, "a"), 20);
    gateway.reload(&File::upstream(&[&a, &b], "slow_start: 1h", ""));
    let few = share(gateway, "b");
    assert!(few <= 3, "a new endpoint has a tenth of its weight: {few}");
    gateway.reload(&File::upstream(&[&a, &b], "slow_start: 0s", ""));
    assert_eq!(share(gateway, "b"), 10);
}

fn retries(gateway: &LoadedGateway) {
    let (dead, live) = (Origin::named("dead"), Origin::named("live"));
    dead.die();
    for (retries, failed) in [(0, 5), (1, 0)] {
        let upstream = format!("retries: {retries}, passive_health: {{ failures: 0 }}");
        gateway.reload(&File::upstream(&[&dead, &live], upstream, ""));
        // On one connection, which one thread serves: the endpoints take turns.
        let mut wire = gateway.gateway().wire();
        let statuses = (0..10).map(|_| {
            wire.send("GET /case HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire.response().status
        });
        assert_eq!(statuses.filter(|status| *status == 502).count(), failed, "{retries}");
    }
}

fn resolve(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 3600));
    let endpoint = format!("resolve.test:{}", origin.address().port());
    let with = |resolve: &str| {
        File::upstream(&[&endpoint], format!("resolve: {resolve}"), "")
            .and_top(format!("server: {{ name_servers: ['{}'] }}", names.address()))
    };
    gateway.reload(&with("1h"));
    eventually("the name is resolved", || (gateway.get("/case").text() == "a").then_some(()));
    gateway.reload(&with("1s"));
    let queries = names.questions();
    eventually("the name is resolved again", || (names.questions() >= queries + 2).then_some(()));
}

fn resolver(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 3600));
    check_resolver(gateway, &names, origin.address().port(), |resolver, endpoint| {
        File::upstream(&[&endpoint], format!("resolver: {resolver}"), "")
            .and_top(format!("server: {{ name_servers: ['{}'] }}", names.address()))
    });
}
