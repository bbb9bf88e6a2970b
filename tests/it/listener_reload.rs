//! Reloads of what a process is bound to and runs on: listeners, the admin address and its token, and threads.

use crate::support::raw::{ask, get, lossy};
use crate::support::{Gateway, Origin, Socket, Wire, eventually};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const WEB: &str = "{ name: web, address: 127.0.0.1:0 }";

/// A file with these listeners.
fn file(listeners: &[&str], rest: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ threads: 2 }}\nlisteners: [{}]\n{rest}",
        listeners.join(", ")
    )
}

fn routes(origin: &Origin) -> String {
    format!("routes: [{{ name: all, upstream: [{origin}] }}]\n")
}

/// An address whose port was free a moment ago, at every address.
fn free_address() -> SocketAddr {
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn await_refusal(address: SocketAddr) {
    eventually("connects are refused", || refuses(address).then_some(()));
}

#[test]
fn a_listener_is_added_and_removed_and_its_connections_live_on() {
    let origin = Origin::named("a");
    let (gateway, side) = (Gateway::start_whole(&file(&[WEB], &routes(&origin))), free_address());
    assert!(refuses(side));
    let listener = format!("{{ name: side, address: '{side}' }}");
    gateway.reload_whole(&file(&[WEB, &listener], &routes(&origin))).unwrap();
    assert_eq!(get(side, "/").status, 200);
    let (mut kept, mut socket) = (Wire::connect(side), Socket::open(side, "/ws"));
    kept.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    let mark = gateway.log().mark();
    gateway.reload_whole(&file(&[WEB], &routes(&origin))).unwrap();
    gateway.log().wait(mark, &["listener closed name=side"]);
    await_refusal(side);
    socket.echo("still open");
    kept.send("GET /again HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    let names: Vec<_> =
        gateway.status()["listeners"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["web"]);
    // The address is free for another process.
    TcpListener::bind(side).unwrap();
}

#[test]
fn websockets_of_a_removed_listener_are_drained_if_the_route_asks_for_it() {
    let (origin, side) = (Origin::named("a"), free_address());
    let listener = format!("{{ name: side, address: '{side}' }}");
    let routes = format!(
        "routes:
  - {{ name: drained, path: /drained, upstream: [{origin}], websocket: {{ on_reload: drain, drain_window: 0s }} }}
  - {{ name: kept, path: /kept, upstream: [{origin}] }}
"
    );
    let gateway = Gateway::start_whole(&file(&[WEB, &listener], &routes));
    let mut drained = Socket::open(side, "/drained");
    let mut others = [Socket::open(side, "/kept"), Socket::open(gateway.web(), "/drained")];
    gateway.reload_whole(&file(&[WEB], &routes)).unwrap();
    assert_eq!(drained.end(), Some(1012));
    others.iter_mut().for_each(|socket| socket.echo("open"));
    let closed = || gateway.metrics().sum("moongate_websocket_closed_total", &[("reason", "drain_listener")]);
    eventually("the close is counted", || (closed() == 1.0).then_some(()));
}

#[test]
fn an_address_in_use_refuses_the_whole_reload_at_its_place() {
    let (origin, other) = (Origin::named("a"), TcpListener::bind("127.0.0.1:0").unwrap());
    let (taken, free) = (other.local_addr().unwrap(), free_address());
    let gateway = Gateway::start_whole(&file(&[WEB], &routes(&origin)));
    let listeners = [
        WEB.to_owned(),
        format!("{{ name: b, address: '{free}' }}"),
        format!("{{ name: c, address: '{taken}' }}"),
    ];
    let listeners: Vec<_> = listeners.iter().map(String::as_str).collect();
    let more = format!("{}  \n", routes(&origin)).replace("/ }", "/other }");
    let report = gateway.reload_whole(&file(&listeners, &more)).unwrap_err();
    assert!(report.contains(&format!("cannot listen on {taken}: Address already in use")), "{report}");
    assert!(report.contains("moongate.yaml:3:") && report.contains("ss -ltnp"), "{report}");
    assert!(refuses(free), "nothing of a refused reload is bound");
    assert_eq!((gateway.generation(), gateway.get("/").status), (1, 200));
    // The same file is taken once the address is free.
    drop(other);
    gateway.reload_whole(&file(&listeners, &more)).unwrap();
    assert_eq!([get(free, "/").status, get(taken, "/").status], [200, 200]);
}

/// Clients that connect anew for each request; returns the failures.
pub(crate) fn connect_during(address: SocketAddr, work: impl FnOnce(&AtomicUsize)) -> Vec<String> {
    connect_with(address, "", work)
}

/// The same for clients that send `prefix` before the request.
fn connect_with(address: SocketAddr, prefix: &'static str, work: impl FnOnce(&AtomicUsize)) -> Vec<String> {
    let (ends, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (ends, served) = (Arc::clone(&ends), Arc::clone(&served));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !ends.load(SeqCst) && failures.len() < 5 {
                    let outcome = TcpStream::connect(address).and_then(|stream| {
                        let mut wire = Wire::of(stream);
                        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                        wire.try_send(format!("{prefix}{request}"))?;
                        wire.try_response("GET")
                    });
                    match outcome {
                        Ok(response) if response.status == 200 => drop(served.fetch_add(1, SeqCst)),
                        Ok(response) => failures.push(response.head),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                failures
            })
        })
        .collect();
    work(&served);
    ends.store(true, SeqCst);
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

#[test]
fn a_renamed_listener_and_new_workers_lose_no_connect() {
    let (origin, address) = (Origin::named("a"), free_address());
    let with = |name: &str, threads: usize| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ threads: {threads} }}\nlisteners: [{WEB}, {{ name: {name}, address: '{address}' }}]\n{}",
            routes(&origin)
        )
    };
    let gateway = Gateway::start_whole(&with("a", 1));
    let failures = connect_during(address, |served| {
        for (name, threads) in [("b", 1), ("b", 3), ("c", 2), ("a", 1), ("d", 4), ("a", 1)] {
            gateway.reload_whole(&with(name, threads)).unwrap();
            let goal = served.load(SeqCst) + 20;
            eventually("requests are served", || (served.load(SeqCst) >= goal).then_some(()));
        }
    });
    assert_eq!(failures, [""; 0]);
}

#[test]
fn a_listener_keeps_its_protocols_while_its_name_changes() {
    let (origin, address) = (Origin::named("a"), free_address());
    let with = |name: &str, other: &str| {
        file(
            &[
                &format!("{{ name: {other}, address: 127.0.0.1:0 }}"),
                &format!("{{ name: {name}, address: '{address}', proxy_protocol: {{ from: [127.0.0.1] }} }}"),
            ],
            &routes(&origin),
        )
    };
    let gateway = Gateway::start_whole(&with("web", "side"));
    let failures = connect_with(address, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", |served| {
        for (name, other) in [("side", "web"), ("web", "side"), ("third", "web"), ("web", "third")].repeat(3)
        {
            gateway.reload_whole(&with(name, other)).unwrap();
            let goal = served.load(SeqCst) + 20;
            eventually("requests are served", || (served.load(SeqCst) >= goal).then_some(()));
        }
    });
    assert_eq!(failures, [""; 0]);
}

#[test]
fn an_address_gives_way_to_one_that_contains_it() {
    let (origin, narrow) = (Origin::named("a"), free_address());
    let wide = SocketAddr::from(([0, 0, 0, 0], narrow.port()));
    let with = |address| file(&[WEB, &format!("{{ name: side, address: '{address}' }}")], &routes(&origin));
    let gateway = Gateway::start_whole(&with(narrow));
    let mut socket = Socket::open(narrow, "/ws");
    for address in [wide, narrow, wide] {
        gateway.reload_whole(&with(address)).unwrap();
        assert_eq!(get(narrow, "/").status, 200);
        socket.echo("still open");
        // A second gateway cannot share the port.
        assert!(TcpListener::bind(wide).is_err(), "{address}");
    }
}

#[test]
fn the_permissions_of_a_unix_socket_change_by_a_reload() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (path, moved) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
    let with = |path: &std::path::Path, more: &str| {
        file(&[WEB, &format!("{{ name: side, address: 'unix:{}'{more} }}", path.display())], &routes(&origin))
    };
    let gateway = Gateway::start_whole(&with(&path, ""));
    let mode = || path.metadata().unwrap().mode() & 0o777;
    let (first, inode) = (mode(), path.metadata().unwrap().ino());
    for (more, expected) in [(", mode: 0600", 0o600), (", mode: 0660", 0o660), ("", first)] {
        gateway.reload_whole(&with(&path, more)).unwrap();
        assert_eq!((mode(), path.metadata().unwrap().ino()), (expected, inode));
    }
    let kept = UnixStream::connect(&path).unwrap();
    gateway.reload_whole(&with(&moved, "")).unwrap();
    assert!(!path.exists() && moved.exists());
    drop(kept);
    UnixStream::connect(&moved).unwrap();
    // A folder that does not exist refuses the reload, and the socket stays.
    let report = gateway.reload_whole(&with(&folder.path().join("no/c.sock"), "")).unwrap_err();
    assert!(report.contains("cannot listen on unix:"), "{report}");
    UnixStream::connect(&moved).unwrap();
    gateway.reload_whole(&file(&[WEB], &routes(&origin))).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn max_connections_of_a_listener_changes_and_counts_open_connections() {
    let (origin, address) = (Origin::named("a"), free_address());
    let with =
        |more: &str| file(&[WEB, &format!("{{ name: side, address: '{address}'{more} }}")], &routes(&origin));
    let gateway = Gateway::start_whole(&with(""));
    let open: Vec<_> = (0..3).map(|_| Socket::open(address, "/ws")).collect();
    gateway.reload_whole(&with(", max_connections: 3")).unwrap();
    let mut fourth = Wire::connect(address);
    fourth.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    gateway.log().wait(0, &["listener has `max_connections` connections"]);
    assert_eq!(origin.count(), 3);
    gateway.reload_whole(&with(", max_connections: 4")).unwrap();
    assert_eq!(fourth.response().status, 200);
    drop(open);
}

fn workers(gateway: &Gateway) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("worker-")).count()
}

#[test]
fn threads_are_added_and_retired_and_no_websocket_is_lost() {
    let origin = Origin::named("a");
    let with = |threads: usize| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ threads: {threads} }}\nlisteners: [{WEB}]\n{}",
            routes(&origin)
        )
    };
    let gateway = Gateway::start_whole(&with(1));
    assert_eq!(workers(&gateway), 1);
    gateway.reload_whole(&with(4)).unwrap();
    assert_eq!(workers(&gateway), 4);
    let mut sockets: Vec<_> = (0..40).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let mut kept: Vec<_> = (0..8).map(|_| gateway.wire()).collect();
    gateway.reload_whole(&with(1)).unwrap();
    sockets.iter_mut().for_each(|socket| socket.echo("still open"));
    for wire in &mut kept {
        // An idle connection of a retired worker ends; another one is served.
        let _ = wire.try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    assert_eq!(gateway.get("/").status, 200);
    drop((sockets, kept));
    eventually("retired workers end", || (workers(&gateway) == 1).then_some(()));
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn the_admin_address_and_its_token_change_by_a_reload() {
    let origin = Origin::named("a");
    let (first, second) = (free_address(), free_address());
    let with = |admin: &str| format!("{admin}listeners: [{WEB}]\n{}", routes(&origin));
    let gateway = Gateway::start_whole(&with(&format!("admin: {{ address: '{first}' }}\n")));
    let ready =
        |address: SocketAddr| TcpStream::connect(address).is_ok().then(|| get(address, "/readyz").status);
    let status = |address: SocketAddr, token: &str| {
        let request = format!(
            "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        ask(address, request).status
    };
    let reload = |yaml: &str| {
        gateway.write_whole(yaml);
        let mark = gateway.log().mark();
        gateway.signal("HUP");
        gateway.log().wait(mark, &["configuration reloaded"]);
    };
    // A stream of the old address ends, and the reload's own response arrives.
    let mut stream = Wire::connect(first);
    stream.send("GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.fill().unwrap();
    gateway.write_whole(&with(&format!("admin: {{ address: '{second}', token: one }}\n")));
    let reloaded = ask(first, "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    eventually("the new address is ready", || (ready(second) == Some(200)).then_some(()));
    await_refusal(first);
    assert!(lossy(&stream.rest()).ends_with("0\r\n\r\n"), "the stream ends");
    assert_eq!((status(second, "one"), status(second, "two")), (200, 401));
    // Another token at the same address, on the same socket.
    reload(&with(&format!("admin: {{ address: '{second}', token: two }}\n")));
    assert_eq!((status(second, "one"), status(second, "two")), (401, 200));
    // A refused address keeps the old one.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    gateway.write_whole(&with(&format!("admin: {{ address: '{}' }}\n", taken.local_addr().unwrap())));
    let mark = gateway.log().mark();
    gateway.signal("HUP");
    gateway.log().wait(mark, &["configuration rejected"]);
    assert_eq!(status(second, "two"), 200);
    // Without the key there is none, and it can return.
    reload(&with(""));
    await_refusal(second);
    assert_eq!(gateway.get("/").status, 200);
    reload(&with(&format!("admin: {{ address: '{first}' }}\n")));
    eventually("the address is back", || (ready(first) == Some(200)).then_some(()));
    let history = get(first, "/api/v1/reloads").json();
    assert!(history["entries"].as_array().unwrap().len() >= 5);
}

#[test]
fn a_reload_during_a_shutdown_opens_nothing() {
    let (origin, side) = (Origin::named("a"), free_address());
    let gateway = Gateway::start_whole(&file(&[WEB], &routes(&origin)));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("open");
    gateway.signal("TERM");
    await_refusal(gateway.web());
    gateway.write_whole(&file(&[WEB, &format!("{{ name: side, address: '{side}' }}")], &routes(&origin)));
    let response =
        ask(gateway.admin(), "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(response.status, 422, "{}", response.text());
    assert!(response.text().contains("the process is shutting down"), "{}", response.text());
    assert!(refuses(side));
    drop(socket);
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
}
