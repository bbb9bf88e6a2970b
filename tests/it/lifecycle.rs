//! End of the process: gracefully, in time, or at once.

use crate::support::eventually::within;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Socket, eventually, get};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bound for "at once" on a busy machine.
const SOON: Duration = Duration::from_secs(6);

/// A backend that responds when the gate opens.
fn gated() -> (Arc<Gate>, Origin) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::scripted("gated", move |_, wire| {
        held.pass_within(LIMIT);
        let answer = crate::support::origin::answer(200, "", b"worth the wait");
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    (gate, origin)
}

fn with_grace(grace: &str, origin: &Origin) -> Gateway {
    Gateway::start(&format!("server: {{ grace_period: {grace} }}\nroutes: [{{ upstream: ['{origin}'] }}]"))
}

fn request_in_flight(gateway: &Gateway, origin: &Origin) -> crate::support::Wire {
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    origin.await_seen(1);
    wire
}

#[test]
fn sigterm_lets_a_request_end_and_then_ends_the_process() {
    let (gate, origin) = gated();
    let gateway = with_grace("60s", &origin);
    let (web, admin) = (gateway.web(), gateway.admin());
    eventually("it is ready", || (get(admin, "/readyz").status == 200).then_some(()));
    let mut wire = request_in_flight(&gateway, &origin);

    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    eventually("readiness fails", || (get(admin, "/readyz").status == 503).then_some(()));
    assert_eq!(get(admin, "/healthz").status, 200);
    assert_eq!(gateway.status()["draining"], true);
    eventually("new connects are refused", || TcpStream::connect(web).is_err().then_some(()));
    assert!(gateway.ended().is_none());

    gate.open();
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, "worth the wait"));
    assert_eq!(response.field("connection"), Some("close"), "the next request would be lost");
    assert_eq!(gateway.exit_within(SOON).code(), Some(0), "as soon as the last is gone");
    gateway.log().wait(0, &["stopped"]);
}

#[test]
fn an_idle_process_ends_at_once_although_connections_are_kept() {
    let a = Origin::named("a");
    let gateway = with_grace("60s", &a);
    let mut kept = gateway.wire();
    kept.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_within(SOON).code(), Some(0));
    assert!(kept.ended());
}

#[test]
fn the_grace_period_bounds_a_request_that_never_ends() {
    let (_gate, origin) = gated();
    let gateway = with_grace("1s", &origin);
    let _wire = request_in_flight(&gateway, &origin);
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.exit_within(Duration::from_secs(1) + SOON).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(900), "it had its grace: {:?}", start.elapsed());
}

#[test]
fn websockets_get_the_grace_period_and_no_more() {
    let a = Origin::named("a");
    let gateway = with_grace("2s", &a);
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("hello");
    gateway.signal("TERM");
    socket.end();
    assert_eq!(gateway.exit_within(Duration::from_secs(2) + SOON).code(), Some(0));
    a.await_sockets(0);
}

#[test]
fn the_process_ends_with_its_last_websocket() {
    let a = Origin::named("a");
    let gateway = with_grace("60s", &a);
    let socket = Socket::open(gateway.web(), "/ws");
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    drop(socket);
    assert_eq!(gateway.exit_within(SOON).code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let (_gate, origin) = gated();
    let gateway = with_grace("60s", &origin);
    let _wire = request_in_flight(&gateway, &origin);
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    gateway.signal("TERM");
    gateway.exit_within(SOON);
}

#[test]
fn sigint_ends_at_once() {
    let (_gate, origin) = gated();
    let gateway = with_grace("60s", &origin);
    let _wire = request_in_flight(&gateway, &origin);
    gateway.signal("INT");
    gateway.exit_within(SOON);
}

#[test]
fn sigint_ends_a_drain() {
    let (_gate, origin) = gated();
    let gateway = with_grace("60s", &origin);
    let _wire = request_in_flight(&gateway, &origin);
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    gateway.signal("INT");
    gateway.exit_within(SOON);
}

#[test]
fn a_reload_during_the_drain_changes_nothing() {
    let (gate, origin) = gated();
    let gateway = with_grace("60s", &origin);
    let mut wire = request_in_flight(&gateway, &origin);
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    gateway.signals("HUP", 3);
    gate.open();
    assert_eq!(wire.response().status, 200);
    assert_eq!(gateway.exit_within(SOON).code(), Some(0));
}

#[test]
fn sigusr1_reopens_the_access_log_and_nothing_else() {
    let (gate, origin) = gated();
    let folder = tempfile::tempdir().unwrap();
    let (log, aside) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let yaml = format!(
        "server: {{ grace_period: 60s }}
access_log: {{ path: {} }}
routes: [{{ path: /slow, upstream: [{origin}] }}]",
        log.display()
    );
    let gateway = Gateway::start(&yaml);
    let has = |path: &std::path::Path, what: &str| {
        eventually(what, || std::fs::read_to_string(path).ok().filter(|text| text.contains(what)).map(drop));
    };
    gateway.get("/before");
    has(&log, "/before");
    std::fs::rename(&log, &aside).unwrap();
    gateway.get("/moved");
    has(&aside, "/moved");
    let reopen = || {
        let mark = gateway.log().mark();
        gateway.signal("USR1");
        gateway.log().wait(mark, &["log files"])
    };
    assert!(reopen().contains("log files reopened"));
    gateway.get("/after");
    has(&log, "/after");
    assert_eq!((gateway.generation(), gateway.log().count(0, "configuration reloaded")), (1, 0));
    // A log that cannot be opened keeps its old file, and a reload of such a configuration is rejected.
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert!(reopen().contains("log files not reopened"));
    gateway.get("/kept");
    has(&aside, "/kept");
    assert!(gateway.reload(&yaml).unwrap_err().contains("access_log.path"));
    std::fs::remove_dir(&log).unwrap();
    // During a shutdown too.
    let mut wire = gateway.wire();
    wire.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    origin.await_seen(1);
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    assert!(reopen().contains("log files reopened"));
    gate.open();
    assert_eq!(wire.response().status, 200);
    assert_eq!(gateway.exit_within(SOON).code(), Some(0));
    has(&log, "/slow");
}

#[test]
fn an_address_in_use_is_reported_and_exits_1() {
    let a = Origin::named("a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let gateway = Gateway::spawn(&format!(
        "listeners: [{{ name: web, address: '{address}' }}]\nroutes: [{{ upstream: ['{a}'] }}]"
    ));
    assert_eq!(gateway.exit_within(SOON).code(), Some(1));
    within(LIMIT, "the log names the address", || {
        gateway.log().text().contains(&address.to_string()).then_some(())
    });
}
