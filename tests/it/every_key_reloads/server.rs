//! `server`, except its limits for slow clients.

use super::loaded_gateway::{File, LoadedGateway};
use super::shared_checks::{check_resolver, requests_after_reloads};
use super::{Case, case};
use crate::support::name_server::{NameServer, Says};
use crate::support::{Gateway, Origin, Socket, eventually, get};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case(&["server"], server),
    case(&["server.threads"], threads),
    case(&["server.drain_delay"], drain_delay),
    case(&["server.grace_period"], grace_period),
    case(&["server.max_header_size"], max_header_size),
    case(&["server.resolver"], resolver),
    case(&["server.name_servers"], name_servers),
    case(&["server.trusted_proxies"], trusted_proxies),
    case(&["server.client_ipv6_prefix"], client_ipv6_prefix),
    case(&["server.x_forwarded"], x_forwarded),
    case(&["server.via"], via),
    case(&["server.merge_slashes"], merge_slashes),
    case(&["server.escaped_slashes"], escaped_slashes),
];

/// A route to this backend with these settings of `server`.
fn to(origin: &Origin, settings: &str) -> File {
    File::server(settings).and_route(format!("name: case, path: /case, upstream: ['{origin}']"))
}

fn server(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let keeps = || gateway.get_with("/case", "X: 1\r\n").field("via").is_some();
    gateway.reload(&to(&origin, "via: both"));
    assert!(keeps());
    gateway.reload(&File::route(format!("path: /case, upstream: ['{origin}']")));
    assert!(!keeps(), "without the section the defaults apply");
}

fn threads(gateway: &LoadedGateway) {
    let workers = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", gateway.gateway().pid())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("worker-")).count()
    };
    // The threads before the first reload are those of the default, one for each core.
    for threads in [3, 5] {
        gateway.reload(&File::server(format!("threads: {threads}")));
        // The WebSockets of the load keep removed threads.
        eventually("the threads are started", || (workers() >= threads).then_some(()));
        gateway.await_load();
    }
    let started = workers();
    let mut idle: Vec<_> = (0..10).map(|_| gateway.gateway().wire()).collect();
    gateway.reload(&File::server("threads: 1"));
    idle.clear();
    eventually("threads without a connection end", || (workers() < started).then_some(()));
}

/// A process of its own, which ends in the case.
fn other(origin: &Origin, settings: &str) -> String {
    format!("server: {{ {settings} }}\nroutes: [{{ upstream: ['{origin}'] }}]\n")
}

fn drain_delay(_: &LoadedGateway) {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&other(&origin, "drain_delay: 0s"));
    gateway.reload(&other(&origin, "drain_delay: 1h")).unwrap();
    gateway.signal("TERM");
    eventually("readiness fails", || (get(gateway.admin(), "/readyz").status == 503).then_some(()));
    assert_eq!(gateway.get("/").status, 200, "connections are accepted during the delay");
}

fn grace_period(_: &LoadedGateway) {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&other(&origin, "grace_period: 1h"));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("open");
    gateway.reload(&other(&origin, "grace_period: 0s")).unwrap();
    socket.echo("still open");
    gateway.signal("TERM");
    socket.end();
    assert!(gateway.exit_within(Duration::from_secs(10)).success());
}

fn max_header_size(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let line = format!("X: {}\r\n", "x".repeat(2000));
    for (size, status) in [("4KiB", 200), ("1KiB", 431), ("64KiB", 200)] {
        gateway.reload(&to(&origin, &format!("max_header_size: {size}")));
        assert_eq!(gateway.get_with("/case", &line).status, status, "{size}");
    }
}

fn resolver(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 3600));
    check_resolver(gateway, &names, origin.address().port(), |resolver, endpoint| {
        File::server(format!("name_servers: ['{}'], resolver: {resolver}", names.address()))
            .and_route(format!("path: /case, upstream: ['{endpoint}']"))
    });
}

fn name_servers(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let servers = [(); 2].map(|()| NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 3600)));
    for (number, server) in servers.iter().enumerate() {
        let endpoint = format!("name-{number}.test:{}", origin.address().port());
        let file = File::server(format!("name_servers: ['{}']", server.address()));
        gateway.reload(&file.and_route(format!("path: /case, upstream: ['{endpoint}']")));
        eventually("the name is resolved", || (gateway.get("/case").text() == "a").then_some(()));
        assert!(server.questions() > 0, "{number}");
    }
    assert_eq!(servers[0].questions(), 1, "the first server is not asked for the second name");
}

fn trusted_proxies(gateway: &LoadedGateway) {
    requests_after_reloads(
        gateway,
        to,
        "X-Forwarded-For: 192.0.2.1\r\n",
        |seen| seen.field("x-forwarded-for").map(str::to_owned),
        &[
            ("trusted_proxies: [10.0.0.0/8]", Some("127.0.0.1")),
            ("trusted_proxies: [127.0.0.1]", Some("192.0.2.1, 127.0.0.1")),
        ],
    );
}

fn client_ipv6_prefix(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (prefix, second) in [(48, 429), (128, 200)] {
        let limit = "plugins: [{ kind: rate_limit, rate: 1/h }]";
        let settings = format!("trusted_proxies: [127.0.0.1], client_ipv6_prefix: {prefix}");
        let route = format!("name: p{prefix}, path: /case, upstream: ['{origin}'], {limit}");
        gateway.reload(&File::server(settings).and_route(route));
        let from = |client| gateway.get_with("/case", &format!("X-Forwarded-For: {client}\r\n")).status;
        assert_eq!((from("2001:db8::1"), from("2001:db8:0:1::1")), (200, second), "{prefix}");
    }
}

fn x_forwarded(gateway: &LoadedGateway) {
    requests_after_reloads(
        gateway,
        to,
        "X-Forwarded-For: 192.0.2.1\r\n",
        |seen| seen.field("x-forwarded-for").map(str::to_owned),
        &[
            ("x_forwarded: add", Some("127.0.0.1")),
            ("x_forwarded: remove", None),
            ("x_forwarded: keep", Some("192.0.2.1")),
        ],
    );
}

fn via(gateway: &LoadedGateway) {
    requests_after_reloads(
        gateway,
        to,
        "",
        |seen| seen.field("via").map(|_| "via".to_owned()),
        &[("via: off", None), ("via: requests", Some("via")), ("via: responses", None)],
    );
}

fn merge_slashes(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, target) in [("match", "/case//x"), ("rewrite", "/case/x")] {
        gateway.reload(&to(&origin, &format!("merge_slashes: {setting}")));
        assert_eq!(gateway.get("/case//x").status, 200);
        assert_eq!(origin.seen().last().unwrap().target(), target, "{setting}");
    }
}

fn escaped_slashes(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, status) in [("match", 200), ("reject", 400)] {
        gateway.reload(&to(&origin, &format!("escaped_slashes: {setting}")));
        assert_eq!(gateway.get("/case/%2fx").status, status, "{setting}");
    }
}
