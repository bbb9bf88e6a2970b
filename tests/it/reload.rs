//! Reloads: all or nothing, without an effect on clients.

use crate::support::eventually::within;
use crate::support::log::field;
use crate::support::{Gateway, LIMIT, Load, Origin, Socket, eventually, moongate};
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;

/// A file of a hundred routes, so that a generation kept by mistake is noticeable. Without pings, since its clients read
/// nothing while it is reloaded, however long that takes.
fn big(origins: [&Origin; 2], version: usize) -> String {
    let [a, b] = origins;
    let mut yaml = format!(
        "upstreams:
  all: {{ balance: least_connections, endpoints: [{a}, {b}] }}
routes:
  - {{ name: all, upstream: all, websocket: {{ ping_interval: 0s }} }}
"
    );
    for n in 0..100 {
        let host = format!("tenant-{n}.example");
        let name = format!("tenant-{n}-{}", version % 2);
        writeln!(yaml, "  - {{ name: {name}, host: {host}, path: /v{version}/, upstream: all }}").unwrap();
    }
    yaml
}

/// 100 WebSockets before the first reload and one more with each of the first 100, with a stream of requests.
/// Nothing is dropped, nothing fails, and the last 100 reloads cost no memory.
#[test]
fn two_hundred_reloads_under_two_hundred_websockets_cost_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let origins = [&a, &b];
    let gateway = Gateway::start(&big(origins, 0));
    let web = gateway.web();
    let mut sockets: Vec<_> = (0..100).map(|_| Socket::open(web, "/ws")).collect();
    let load = Load::start(web, "/", 2);
    for version in 1..=100 {
        gateway.reload(&big(origins, version)).unwrap();
        sockets.push(Socket::open(web, "/ws"));
        sockets[version].echo("in the middle of it");
    }
    for version in 101..=200 {
        gateway.reload(&big(origins, version)).unwrap();
    }
    // A generation kept by mistake shows in every hundred; steps of the allocator and the kernel only in one
    // of them.
    let mut version = 200;
    let mut hundred_more = || {
        let settled = gateway.memory();
        for _ in 0..100 {
            version += 1;
            assert_eq!(gateway.reload(&big(origins, version)), Ok(version as u64 + 1));
        }
        gateway.memory().saturating_sub(settled)
    };
    let growth = hundred_more().min(hundred_more());
    load.await_more(20);
    assert_eq!(load.stop(), Vec::<String>::new());
    sockets.iter_mut().for_each(|socket| socket.echo("still here"));
    assert_eq!(a.sockets() + b.sockets(), 200);
    // A generation kept by mistake exceeds 100 KiB; the kernel may allocate 2 MiB at a time.
    assert!(growth < 5 << 10, "a hundred more reloads added {growth} KiB");
}

#[test]
fn an_invalid_file_keeps_the_old_generation_and_is_reported() {
    let a = Origin::named("a");
    let good = format!(
        "upstreams:
  backend: {{ endpoints: [{a}] }}
routes:
  - upstream: backend
"
    );
    let gateway = Gateway::start(&good);
    let generation = gateway.generation();
    let report = gateway.reload(&good.replace("- upstream: backend", "- upstream: backned")).unwrap_err();
    for expected in
        ["unknown upstream `backned`", "moongate.yaml:6:15", "routes[0].upstream", "did you mean `backend`?"]
    {
        assert!(report.contains(expected), "{expected:?} is not in\n{report}");
    }
    assert_eq!(gateway.generation(), generation);
    assert_eq!(gateway.status()["last_reload"]["ok"], false);
    assert_eq!(gateway.metrics().sum("moongate_config_last_reload_successful", &[]), 0.0);
    assert_eq!(gateway.get("/").text(), "a");

    let next = gateway.reload(&good).unwrap();
    assert_eq!(next, generation + 1, "a refused file takes no number");
    assert_eq!(gateway.metrics().sum("moongate_config_generation", &[]), next as f64);
    assert_eq!(gateway.metrics().sum("moongate_config_last_reload_successful", &[]), 1.0);
}

#[test]
fn every_kind_of_broken_file_is_survived() {
    let a = Origin::named("a");
    let good = format!("routes: [{{ upstream: [{a}] }}]");
    let gateway = Gateway::start(&good);
    for bad in [
        "routes: [",
        "\u{0}\u{1}",
        "routes: 1",
        "routes: []\nroutes: []",
        "unknown: key",
        "&a [*a]",
        "- - -\n:",
    ] {
        gateway.write_whole(bad);
        let mark = gateway.log().mark();
        gateway.signal("HUP");
        gateway.log().wait(mark, &["configuration rejected"]);
        assert_eq!(gateway.get("/").text(), "a", "{bad:?}");
    }
    fs::remove_file(gateway.file()).unwrap();
    let mark = gateway.log().mark();
    gateway.signal("HUP");
    gateway.log().wait(mark, &["configuration rejected"]);
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn an_edit_moves_traffic_while_an_open_websocket_stays() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let file = |origin: &Origin| format!("routes: [{{ upstream: [{origin}] }}]");
    let gateway = Gateway::start(&file(&old));
    let mut before = Socket::open(gateway.web(), "/ws");
    before.echo("before");
    let mut kept = gateway.wire();
    kept.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.response().text(), "old");

    gateway.reload(&file(&new)).unwrap();
    assert_eq!(gateway.get("/").text(), "new");
    kept.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.response().text(), "new", "a kept connection holds no old configuration");
    assert_eq!(Socket::open(gateway.web(), "/ws").backend, "new");
    before.echo("after");
    assert_eq!(before.backend, "old");
}

#[test]
fn a_request_in_flight_ends_on_the_generation_it_began_on() {
    let gate = std::sync::Arc::new(crate::support::Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let old = Origin::scripted("old", move |_, wire| {
        held.pass_within(LIMIT);
        wire.try_send(crate::support::origin::answer(200, "", b"old")).unwrap();
        crate::support::Next::Keep
    });
    let new = Origin::named("new");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: [{old}] }}]"));
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    old.await_seen(1);
    gateway.reload(&format!("routes: [{{ upstream: [{new}] }}]")).unwrap();
    gate.open();
    assert_eq!(wire.response().text(), "old");
}

#[test]
fn a_removed_route_is_404_and_a_new_one_is_there() {
    let a = Origin::named("a");
    let file = |path: &str| format!("routes: [{{ path: {path}, upstream: [{a}] }}]");
    let gateway = Gateway::start(&file("/one/"));
    assert_eq!((gateway.get("/one/").status, gateway.get("/two/").status), (200, 404));
    gateway.reload(&file("/two/")).unwrap();
    assert_eq!((gateway.get("/one/").status, gateway.get("/two/").status), (404, 200));
}

#[test]
fn a_burst_of_signals_coalesces_and_the_last_file_wins() {
    let (a, b, other) = (Origin::named("a"), Origin::named("b"), Origin::named("other"));
    let gateway = Gateway::start(&big([&a, &other], 0));
    let before = gateway.generation();
    gateway.write(&format!("routes: [{{ name: last, upstream: [{b}] }}]"));
    gateway.signals("HUP", 100);
    eventually("the last file serves", || (gateway.get("/").text() == "b").then_some(()));
    let reloads = gateway.generation() - before;
    assert!((1..=50).contains(&reloads), "100 signals made {reloads} reloads");
    assert!(gateway.ended().is_none());
}

/// The default action of SIGHUP kills a process; the handler is installed before the first listener.
#[test]
fn a_signal_at_the_very_start_does_not_kill() {
    let a = Origin::named("a");
    // Its silent probe delays the start, so that the signals arrive during it.
    a.fall_silent();
    let gateway = Gateway::spawn(&format!(
        "listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams:
  slow:
    endpoints: ['{a}']
    health_check: {{ kind: http, path: /health, timeout: 1s }}
routes: [{{ upstream: slow }}]"
    ));
    let status = format!("/proc/{}/status", gateway.pid());
    within(LIMIT, "SIGHUP is caught", || {
        let text = fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        (u64::from_str_radix(caught, 16).unwrap() & 1 == 1).then_some(())
    });
    gateway.signals("HUP", 3);
    assert_eq!(gateway.log().count(0, "listening"), 0, "caught before there is anything to reload");
    a.recover();
    assert_eq!(gateway.get("/").text(), "a");
    assert!(gateway.ended().is_none());
}

/// A port that is free now, below the ephemeral ones.
fn free_port() -> u16 {
    let start = 20_000 + (std::process::id() % 8_000) as u16;
    (start..start + 2_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

#[test]
fn the_reload_command_prints_the_outcome_and_warnings_and_exits_0_or_78() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let port = free_port();
    let file = |origin: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:{port} }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: [{origin}] }}]"
        )
    };
    let gateway = Gateway::start_whole(&file(&a.to_string()));
    gateway.admin();
    let path = gateway.file();
    let reload = || moongate(&["reload", "-c", path.to_str().unwrap()]);

    gateway.write_whole(&file(&b.to_string()));
    let good = reload();
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert_eq!(gateway.get("/").text(), "b");

    gateway.write_whole(&file("127.0.0.1:99999"));
    let bad = reload();
    assert_eq!(bad.status.code(), Some(78));
    let said = [bad.stdout, bad.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("moongate.yaml:3:"), "{said}");
    assert_eq!(gateway.get("/").text(), "b");
    assert_eq!(field(&gateway.log().wait(0, &["configuration reloaded"]), "generation"), "2");

    gateway.write_whole(&file(&b.to_string()).replace("routes: [", "routes: [] #"));
    let doubtful = reload();
    assert_eq!(doubtful.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&doubtful.stdout),
        format!("configuration reloaded, generation {}\n", gateway.generation())
    );
    let warned = String::from_utf8_lossy(&doubtful.stderr);
    assert!(warned.starts_with("warning: no routes") && !warned.contains("the gateway reads"), "{warned}");

    // The admin address of this file is the gateway's, and the file is another one.
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.yaml");
    std::fs::write(&other, format!("admin: {{ address: '{}' }}\n", gateway.admin())).unwrap();
    let misled = moongate(&["reload", "-c", other.to_str().unwrap()]);
    let warned = String::from_utf8_lossy(&misled.stderr);
    assert!(warned.contains("warning: the gateway reads ") && warned.contains("other.yaml"), "{warned}");
}
