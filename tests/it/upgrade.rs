//! Upgrades to a new process: nothing is refused meanwhile, and one that fails changes nothing.

use crate::listener_reload::connect_during;
use crate::support::gateway::BINARY;
use crate::support::raw::{ask, get, lossy};
use crate::support::{Gateway, Origin, Socket, Wire, eventually, moongate};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const EXIT: Duration = Duration::from_secs(40);

fn routes(origin: &Origin) -> String {
    format!("routes: [{{ name: all, upstream: [{origin}] }}]\n")
}

/// Runs `moongate upgrade`. The file has port 0, so the address is given.
fn upgrade(gateway: &Gateway) -> Output {
    moongate(&["upgrade", "--admin", &gateway.admin().to_string()])
}

/// Upgrades, and returns the ID of the new process.
fn upgraded(gateway: &Gateway) -> u32 {
    let output = upgrade(gateway);
    let text = lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}{}", lossy(&output.stderr), gateway.log().text());
    let pid = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    gateway.succeeded_by(pid);
    pid
}

#[test]
fn an_upgrade_refuses_no_connect_and_the_old_process_ends() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin));
    let failures = connect_during(gateway.web(), |served| {
        for _ in 0..3 {
            let old = gateway.pid();
            let new = upgraded(&gateway);
            assert_ne!(old, new);
            let goal = served.load(SeqCst) + 50;
            eventually("requests are served", || (served.load(SeqCst) >= goal).then_some(()));
            eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
        }
    });
    assert_eq!(failures, [""; 0]);
    assert_eq!((gateway.get("/").status, gateway.generation()), (200, 4));
}

#[test]
fn sigusr2_upgrades_with_a_changed_file() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&routes(&a));
    assert_eq!(gateway.get("/").text(), "a");
    gateway.write(&routes(&b));
    gateway.signal("USR2");
    let line = gateway.log().wait(0, &["new process serves"]);
    gateway.succeeded_by(crate::support::log::field(&line, "pid").parse().unwrap());
    assert_eq!(gateway.get("/").text(), "b");
    assert!(gateway.exit_within(EXIT).success());
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn a_request_in_flight_ends_in_the_old_process() {
    let slow = Origin::scripted("slow", |_, wire| {
        wire.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").unwrap();
        crate::support::Gate::default().pass_within(Duration::from_secs(2));
        wire.try_send("2\r\ncd\r\n0\r\n\r\n").unwrap();
        crate::support::Next::Close
    });
    let gateway = Gateway::start(&format!("routes: [{{ upstream: [{slow}] }}]\n"));
    let mut wire = gateway.wire();
    wire.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.head().unwrap();
    upgraded(&gateway);
    assert!(lossy(&wire.rest()).ends_with("cd\r\n0\r\n\r\n"));
    assert!(gateway.exit_within(EXIT).success());
}

/// A gateway whose binary can be replaced.
pub(crate) fn start_from(folder: &Path, yaml: &str) -> (Gateway, PathBuf) {
    let binary = folder.join("moongate");
    fs::hard_link(BINARY, &binary).or_else(|_| fs::copy(BINARY, &binary).map(drop)).unwrap();
    (Gateway::start_binary(&binary, yaml), binary)
}

/// Replaces the binary, as a package does.
pub(crate) fn replace(binary: &Path, script: &str) {
    let draft = binary.with_extension("new");
    fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, binary).unwrap();
}

#[test]
fn an_upgrade_that_fails_changes_nothing_and_says_why() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (gateway, binary) = start_from(folder.path(), &routes(&origin));
    let mut socket = Socket::open(gateway.web(), "/ws");
    let mut fails = |why: &str| {
        let output = upgrade(&gateway);
        let text = lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the running process continues") && text.contains(why), "{why}: {text}");
        socket.echo("still open");
        assert_eq!((gateway.get("/").status, gateway.generation()), (200, 1));
    };
    // A configuration that does not check.
    gateway.write("routes: [{ upstrem: [127.0.0.1:1] }]\n");
    fails("did you mean `upstream`?");
    // One whose new address is in use.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    gateway.write_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{{ address: '{}' }}]\n{}",
        other.local_addr().unwrap(),
        routes(&origin)
    ));
    fails("cannot listen on");
    gateway.write(&routes(&origin));
    // Binaries that end, crash, and do not exist.
    replace(&binary, "exit 3");
    fails("exit status: 3");
    replace(&binary, "kill -SEGV $$");
    fails("signal: 11");
    fs::remove_file(&binary).unwrap();
    fails("cannot start");
    // The original works again.
    fs::hard_link(BINARY, &binary).or_else(|_| fs::copy(BINARY, &binary).map(drop)).unwrap();
    upgraded(&gateway);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_shutdown_during_an_upgrade_ends_the_new_process_too() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (gateway, binary) = start_from(folder.path(), &routes(&origin));
    let started = folder.path().join("started");
    // It never becomes ready.
    replace(&binary, &format!("echo $$ > {}; exec sleep 600", started.display()));
    gateway.signal("USR2");
    let pid = eventually("the new process starts", || {
        fs::read_to_string(&started).ok()?.trim().parse::<u32>().ok()
    });
    gateway.signal("TERM");
    assert!(gateway.exit_within(EXIT).success());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_unix_socket_and_several_ports_0_are_handed_over() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.sock");
    let yaml = format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: other, address: 127.0.0.1:0 }}
  - {{ name: side, address: 'unix:{}', mode: 0600 }}
{}",
        path.display(),
        routes(&origin)
    );
    let gateway = Gateway::start_whole(&yaml);
    let addresses = [gateway.web(), gateway.listener("other")];
    let old = gateway.pid();
    upgraded(&gateway);
    eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
    for address in addresses {
        assert_eq!(get(address, "/").status, 200);
    }
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    // The new process is a whole one: it reloads, and removes the file at its end.
    assert_eq!(gateway.reload_whole(&yaml), Ok(3));
    gateway.signal("TERM");
    eventually("the file goes with the process", || (!path.exists()).then_some(()));
}

#[test]
fn an_upgrade_that_fails_leaves_the_file_of_a_unix_socket_as_it_was() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.sock");
    let with = |mode: &str, more: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: side, address: 'unix:{}', mode: {mode} }}
{more}{}",
            path.display(),
            routes(&origin)
        )
    };
    let gateway = Gateway::start_whole(&with("0600", ""));
    let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("  - {{ name: taken, address: '{}' }}\n", other.local_addr().unwrap());
    gateway.write_whole(&with("0666", &taken));
    let output = upgrade(&gateway);
    assert!(lossy(&output.stderr).contains("cannot listen on"), "{}", lossy(&output.stderr));
    assert_eq!(mode(), 0o600);
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    gateway.write_whole(&with("0666", ""));
    upgraded(&gateway);
    assert_eq!(mode(), 0o666);
    gateway.signal("TERM");
    eventually("the file goes with the process", || (!path.exists()).then_some(()));
}

#[test]
fn a_sighup_during_an_upgrade_reaches_the_new_process() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let folder = tempfile::tempdir().unwrap();
    let (gateway, binary) = start_from(folder.path(), &routes(&a));
    let (draft, original) = (folder.path().join("next.yaml"), folder.path().join("original"));
    fs::hard_link(BINARY, &original).or_else(|_| fs::copy(BINARY, &original).map(drop)).unwrap();
    let whole = fs::read_to_string(gateway.file()).unwrap();
    fs::write(&draft, whole.replace(&a.to_string(), &b.to_string())).unwrap();
    let script = format!(
        "mv '{}' '{}'; kill -HUP $PPID; exec '{}' \"$@\"",
        draft.display(),
        gateway.file().display(),
        original.display()
    );
    replace(&binary, &script);
    upgraded(&gateway);
    eventually("the new process reloads", || (gateway.generation() == 3).then_some(()));
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn a_reload_and_a_second_upgrade_wait_for_the_first() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin));
    let admin = gateway.admin();
    let mut orders: Vec<_> = (0..2)
        .map(|_| {
            let mut wire = Wire::connect(admin);
            wire.send("POST /api/v1/upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            wire
        })
        .collect();
    let responses: Vec<_> = orders.iter_mut().map(Wire::response).collect();
    assert_eq!(responses[0].status, 200, "{}", responses[0].text());
    let pids: Vec<_> = responses.iter().map(|response| response.json()["pid"].as_u64()).collect();
    gateway.succeeded_by(u32::try_from(pids[0].unwrap()).unwrap());
    assert_eq!(pids[0], pids[1], "both orders were for the same upgrade");
    assert_eq!(
        ask(admin, "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status,
        200
    );
    assert_eq!(gateway.generation(), 3);
}

#[test]
fn counters_cookies_and_drains_continue_in_the_new_process() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{a}', '{b}'], balance: sticky }} }}
routes:
  - {{ name: all, path: /, upstream: all }}
  - {{ name: gone, path: /gone, upstream: ['{a}'] }}
"
    ));
    let requests = |route| gateway.metrics().sum("moongate_http_requests_total", &[("route", route)]);
    let observed = || gateway.metrics().sum("moongate_http_request_duration_seconds_count", &[]);
    (0..20).for_each(|_| drop(gateway.get("/")));
    gateway.get("/gone");
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("before");
    let cookie = socket.cookie.clone().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let backend = socket.backend.clone();
    let drained = if backend == "a" { &b } else { &a };
    let target = format!("/api/v1/upstreams/all/endpoints/{drained}/drain");
    let order = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(gateway.admin(), order).status, 200);
    // The new configuration lacks a route, whose counts stay.
    gateway.write(&format!(
        "upstreams: {{ all: {{ endpoints: ['{a}', '{b}'], balance: sticky }} }}\nroutes: [{{ name: all, upstream: all }}]\n"
    ));
    eventually("every response is counted", || (requests("all") == 21.0).then_some(()));
    let before = (requests("all"), requests("gone"), observed());
    for round in 1..=3 {
        let old = gateway.pid();
        upgraded(&gateway);
        eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
        assert_eq!((requests("all"), requests("gone"), observed()), before, "round {round}");
        assert_eq!(gateway.metrics().sum("moongate_websocket_opened_total", &[]), 1.0);
        assert_eq!(gateway.metrics().sum("moongate_websocket_connections_active", &[]), 1.0);
    }
    socket.echo("after");
    let messages = gateway.metrics().sum("moongate_websocket_messages_total", &[("opcode", "text")]);
    assert_eq!(messages, 4.0);
    for _ in 0..5 {
        let request =
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
        assert_eq!(ask(gateway.web(), request).text(), backend, "the session stays at its endpoint");
        assert_eq!(gateway.get("/").text(), backend, "the other endpoint is drained");
    }
    assert_eq!(gateway.generation(), 4);
}

#[test]
fn a_symbolic_link_leads_to_the_program_that_it_names_now() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let link = folder.path().join("moongate");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let gateway = Gateway::start_binary(&link, &routes(&origin));
    let other = folder.path().join("other");
    replace(&other, "exit 5");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let output = upgrade(&gateway);
    assert!(lossy(&output.stderr).contains("exit status: 5"), "{}", lossy(&output.stderr));
}

#[test]
fn a_reload_upgrades_if_the_program_was_replaced() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (gateway, binary) = start_from(folder.path(), &routes(&origin));
    let run = || moongate(&["upgrade", "--or-reload", "--admin", &gateway.admin().to_string()]);
    let output = run();
    assert_eq!(lossy(&output.stdout), "configuration reloaded, generation 2\n");
    gateway.write("routes: [{ upstrem: [127.0.0.1:1] }]\n");
    assert_eq!(run().status.code(), Some(78));
    gateway.write(&routes(&origin));
    assert_eq!(gateway.status()["program_replaced"], false);
    let copy = folder.path().join("copy");
    fs::copy(BINARY, &copy).unwrap();
    fs::rename(&copy, &binary).unwrap();
    assert_eq!(gateway.status()["program_replaced"], true);
    let old = gateway.pid();
    let output = run();
    let text = lossy(&output.stdout);
    assert!(text.contains(" serves (moongate "), "{text}{}", lossy(&output.stderr));
    gateway.succeeded_by(text.split_whitespace().nth(1).unwrap().parse().unwrap());
    eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
    assert_eq!((gateway.get("/").status, gateway.status()["program_replaced"].as_bool()), (200, Some(false)));
}

#[test]
fn an_upgrade_during_a_shutdown_is_refused_at_once() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("open");
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining started"]);
    let output = upgrade(&gateway);
    let text = lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("the process is shutting down") && !text.contains("continues"), "{text}");
    assert!(gateway.ended().is_none(), "it was refused before the end");
    gateway.signal("USR2");
    gateway.log().wait(0, &["SIGUSR2 ignored during a shutdown"]);
    drop(socket);
}

#[test]
fn a_stream_of_the_admin_address_ends_in_order() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin));
    let mut stream = Wire::connect(gateway.admin());
    stream.send("GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.fill().unwrap();
    upgraded(&gateway);
    assert!(lossy(&stream.rest()).ends_with("\r\n0\r\n\r\n"), "the last chunk ends the response");
}
