//! WebSockets that move to a new process: no byte is lost, doubled or out of order, wherever in a frame they are.

use crate::support::certs::{Authority, Client, Secure};
use crate::support::gateway::BINARY as PROGRAM;
use crate::support::raw::lossy;
use crate::support::secured::{Front, Issuer, Life, quoted};
use crate::support::ws::{masked, open_raw, read_frame};
use crate::support::{Gateway, Origin, Socket, Wire, eventually, moongate};
use crate::upgrade::{replace, start_from};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const EXIT: Duration = Duration::from_secs(40);

fn routes(origin: &Origin, websocket: &str) -> String {
    format!("routes: [{{ name: all, upstream: [{origin}]{websocket} }}]\n")
}

/// Upgrades, waits for the end of the old process, and returns the numbers of moved and left WebSockets.
pub(crate) fn upgraded(gateway: &Gateway) -> (u64, u64) {
    let old = gateway.pid();
    let output = moongate(&["upgrade", "--json", "--admin", &gateway.admin().to_string()]);
    let text = lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}{}", lossy(&output.stderr), gateway.log().text());
    let done: serde_json::Value = serde_json::from_str(&text).unwrap();
    gateway.succeeded_by(u32::try_from(done["pid"].as_u64().unwrap()).unwrap());
    let count = |name: &str| done["websockets"][name].as_u64().unwrap();
    let counts = (count("moved"), count("left"));
    if counts.1 == 0 {
        eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
    }
    counts
}

#[test]
fn idle_websockets_move_with_their_facts() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ""));
    let mut sockets: Vec<_> =
        (0..100).map(|number| Socket::open(gateway.web(), &format!("/ws/{number}?x=y"))).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("before"));
    let rows = |gateway: &Gateway| {
        let target = "/api/v1/sockets?sort=path&per_page=200";
        let rows = crate::support::get(gateway.admin(), target).json()["rows"].as_array().unwrap().clone();
        let facts =
            ["id", "client", "route", "upstream", "endpoint", "generation", "path", "messages", "bytes"];
        rows.iter().map(|row| facts.map(|fact| row[fact].clone())).collect::<Vec<_>>()
    };
    // A message is counted after it was sent.
    let before = eventually("every echo is counted", || {
        let rows = rows(&gateway);
        let is_counted = |row: &[serde_json::Value; 9]| row[7]["to_client"] == 1;
        (rows.len() == 100 && rows.iter().all(is_counted)).then_some(rows)
    });
    for round in 0..3 {
        assert_eq!(upgraded(&gateway), (100, 0), "round {round}");
        assert_eq!(rows(&gateway), before);
        assert_eq!(gateway.active("all", origin.address()).unwrap_or(100), 100);
    }
    sockets.iter_mut().for_each(|socket| socket.echo("after"));
    assert_eq!(origin.sockets(), 100);
    sockets.into_iter().for_each(Socket::close);
    origin.await_sockets(0);
    let closed = || gateway.metrics().sum("moongate_websocket_closed_total", &[("code", "1005")]);
    eventually("every close is counted", || (closed() == 100.0).then_some(()));
}

#[test]
fn a_frame_continues_at_any_byte() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ""));
    let message: Vec<u8> = (0..400).map(|number| number as u8).collect();
    // Within the header, its extended length, the key, and the payload; and between fragments.
    let whole = masked(BINARY, &message);
    let mut first = masked(BINARY, &message[..200]);
    first[0] &= 0x7f;
    let fragments = [first.clone(), masked(0, &message[200..])].concat();
    let mut wires: Vec<_> = [1, 2, 3, 5, 7, 8, 9, 200, whole.len() - 1]
        .into_iter()
        .map(|at| (open_raw(gateway.web(), "/ws"), whole.clone(), at))
        .chain([(open_raw(gateway.web(), "/ws"), fragments, first.len())])
        .collect();
    for (wire, bytes, at) in &mut wires {
        wire.send(&bytes[..*at]);
        wire.await_read();
    }
    assert_eq!(upgraded(&gateway), (10, 0));
    for (wire, bytes, at) in &mut wires {
        wire.send(&bytes[*at..]);
        let mut received = Vec::new();
        while received.len() < message.len() {
            received.extend(read_frame(wire).unwrap().1);
        }
        assert_eq!(received, message, "split at {at}");
    }
}

#[test]
fn a_slow_reader_gets_every_byte_once() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ""));
    let mut wire = open_raw(gateway.web(), "/ws");
    let messages: Vec<Vec<u8>> = (0..64_u8)
        .map(|number| (0..128_u32 << 10).map(|at| (at as u8).wrapping_mul(number | 1)).collect())
        .collect();
    // More than the buffers of two sockets: the gateway has bytes that the client does not take.
    let mut writer = Wire::of(wire.another());
    let sent: Vec<_> = messages.iter().map(|message| masked(BINARY, message)).collect();
    let writing = thread::spawn(move || sent.iter().for_each(|bytes| writer.send(bytes)));
    let half = messages.len() / 2;
    let mut read = |from: usize, to: usize| {
        for message in &messages[from..to] {
            assert!(read_frame(&mut wire).unwrap().1 == *message);
        }
    };
    assert_eq!(upgraded(&gateway), (1, 0));
    read(0, half);
    assert_eq!(upgraded(&gateway), (1, 0));
    read(half, messages.len());
    writing.join().unwrap();
}

#[test]
fn traffic_of_every_kind_goes_on_through_upgrades() {
    const CLIENTS: usize = 120;
    let origin = Origin::named("a");
    let gateway =
        Gateway::start(&routes(&origin, ", websocket: { ping_interval: 200ms, ping_timeout: 10s }"));
    let (ends, echoed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (ends, echoed) = (Arc::clone(&ends), Arc::clone(&echoed));
            let mut wire = open_raw(gateway.web(), &format!("/ws/{number}"));
            thread::spawn(move || {
                let length = [5, 125, 126, 4000, 70_000, 1 << 20][number % 6];
                let mut turn = 0_u32;
                while !ends.load(SeqCst) {
                    turn += 1;
                    let mut message = vec![b'a' + (number % 26) as u8; length];
                    message.splice(..5, format!("{turn:05}").into_bytes());
                    let opcode = if number % 2 == 0 { TEXT } else { BINARY };
                    let split = length / 3;
                    let mut head = masked(opcode, &message[..split]);
                    head[0] &= 0x7f;
                    wire.send([head, masked(0, &message[split..])].concat());
                    let mut received = Vec::new();
                    while received.len() < length {
                        let (kind, payload) = read_frame(&mut wire).map_err(|error| error.to_string())?;
                        match kind & 0x0f {
                            9 => wire.send(masked(10, &payload)),
                            8 => return Err(format!("closed: {payload:?}")),
                            _ => received.extend(payload),
                        }
                    }
                    if received != message {
                        return Err(format!("message {turn} differs"));
                    }
                    echoed.fetch_add(1, SeqCst);
                }
                Ok(turn)
            })
        })
        .collect();
    for _ in 0..5 {
        let goal = echoed.load(SeqCst) + 2 * CLIENTS;
        eventually("messages are echoed", || (echoed.load(SeqCst) >= goal).then_some(()));
        assert_eq!(upgraded(&gateway), (CLIENTS as u64, 0));
    }
    let goal = echoed.load(SeqCst) + CLIENTS;
    eventually("messages are echoed", || (echoed.load(SeqCst) >= goal).then_some(()));
    ends.store(true, SeqCst);
    let outcomes: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(origin.connections(), CLIENTS);
}

#[test]
fn websockets_with_long_urls_move() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ""));
    // Four of them are longer than a message between the processes.
    let long = "x".repeat(56 << 10);
    let mut sockets: Vec<_> =
        (0..10).map(|number| Socket::open(gateway.web(), &format!("/ws/{number}?{long}"))).collect();
    assert_eq!(upgraded(&gateway), (10, 0));
    sockets.iter_mut().for_each(|socket| socket.echo("still open"));
}

#[test]
fn a_websocket_that_cannot_move_is_asked_to_reconnect() {
    let (origin, other) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ name: rest, path: /other-plugins, upstream: [{origin}], websocket: {{ drain_window: 0s }}, plugins: [{{ kind: message_filter, max_size: 1MiB }}] }}
  - name: script
    path: /function-in-ctx
    upstream: [{origin}]
    websocket: {{ drain_window: 0s }}
    plugins: [{{ kind: luau, source: 'function message(ws, msg) ws:ctx().next = function() end end' }}]
  - {{ name: gone, path: /gone, upstream: [{origin}], websocket: {{ drain_window: 0s }} }}
  - {{ name: moved, path: /moved, upstream: [{origin}] }}
"
    ));
    let paths = ["/other-plugins", "/function-in-ctx", "/gone"];
    let mut left: Vec<_> = paths.iter().map(|path| Socket::open(gateway.web(), path)).collect();
    left.iter_mut().for_each(|socket| socket.echo("open"));
    let mut moved = Socket::open(gateway.web(), "/moved");
    // The new process has no such route, and another backend for the rest.
    gateway.write(&format!(
        "routes:
  - {{ name: moved, path: /moved, upstream: [{origin}, {other}] }}
  - {{ name: script, path: /function-in-ctx, upstream: [{origin}] }}
  - {{ name: rest, upstream: [{origin}] }}
"
    ));
    assert_eq!(upgraded(&gateway), (1, 3));
    for socket in &mut left {
        assert_eq!(socket.end(), Some(1012));
    }
    moved.echo("still open");
    assert!(gateway.exit_within(EXIT).success());
    for reason in ["there is no route `gone`", "the route `rest` has other plugins now"] {
        assert!(gateway.log().text().contains(reason), "{reason}");
    }
}

#[test]
fn a_new_process_that_dies_while_it_takes_websockets_loses_none_that_it_has_not() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ", websocket: { drain_window: 0s }"));
    let mut sockets: Vec<_> = (0..200).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("before"));
    let mark = gateway.log().mark();
    gateway.signal("USR2");
    let line = gateway.log().wait(mark, &["new process started"]);
    let pid: u32 = crate::support::log::field(&line, "pid").parse().unwrap();
    gateway.log().wait(mark, &["listening name=web"]);
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    // Those that had moved are lost with it. The old process keeps the others, or ends them if all of the move was over.
    let outcomes: Vec<_> = sockets.iter_mut().map(|socket| socket.try_echo("still open")).collect();
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(None | Some(1012)))),
        "{outcomes:?}"
    );
}

#[test]
fn a_killed_old_process_takes_no_websocket_with_it_that_has_moved() {
    const SOCKETS: usize = 300;
    let origin = Origin::named("a");
    let gateway = Gateway::start(&routes(&origin, ""));
    let mut sockets: Vec<_> = (0..SOCKETS).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let mark = gateway.log().mark();
    gateway.signal("USR2");
    let line = gateway.log().wait(mark, &["new process started"]);
    let pid: u32 = crate::support::log::field(&line, "pid").parse().unwrap();
    gateway.log().wait(mark, &["listening name=web"]);
    gateway.signal("KILL");
    gateway.exit_within(EXIT);
    gateway.succeeded_by(pid);
    assert_eq!(gateway.get("/").status, 200, "the new process serves");
    // What the old process held has ended with it; everything else lives, and is counted.
    let living = sockets.iter_mut().filter_map(|socket| socket.try_echo("still open").ok()).count();
    let counted = || gateway.metrics().sum("moongate_websocket_connections_active", &[]) as usize;
    eventually("the living WebSockets are those of the new process", || (counted() == living).then_some(()));
    drop(sockets);
    origin.await_sockets(0);
}

#[test]
fn websockets_beyond_the_descriptors_of_the_new_process_stay_and_are_asked_to_reconnect() {
    const SOCKETS: usize = 200;
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (gateway, binary) = start_from(folder.path(), &routes(&origin, ", websocket: { drain_window: 0s }"));
    let mut sockets: Vec<_> = (0..SOCKETS).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("before"));
    replace(&binary, &format!("ulimit -n 256; exec '{PROGRAM}' \"$@\""));
    let (moved, left) = upgraded(&gateway);
    assert_eq!(moved + left, SOCKETS as u64);
    assert!(moved > 0 && left > 0, "{moved} moved, {left} left");
    // One that stays may echo until the old process closes it.
    let mut outcomes: Vec<_> = sockets.iter_mut().map(|socket| socket.try_echo("after")).collect();
    assert!(gateway.exit_within(EXIT).success());
    for (outcome, socket) in outcomes.iter_mut().zip(&mut sockets).filter(|(outcome, _)| outcome.is_ok()) {
        *outcome = socket.try_echo("after that");
    }
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
    assert_eq!([count(Ok(())), count(Err(Some(1012)))], [moved, left]);
    drop(sockets);
    assert_eq!(gateway.get("/").status, 200, "descriptors are free again");
}

/// A WebSocket over TLS, opened by hand.
fn open_secure(client: &Client, address: SocketAddr, path: &str) -> Secure {
    let mut secure = client.connect(address, "localhost").unwrap();
    assert_eq!(secure.ask(&crate::support::ws::handshake(path, "")).unwrap().status, 101);
    secure
}

fn echo_over(secure: &mut Secure, payload: &[u8]) -> Result<(), String> {
    secure.send(&masked(BINARY, payload)).map_err(|cut| format!("{cut:?}"))?;
    let mut heard = Vec::new();
    while heard.len() < payload.len() {
        let mut exactly = |length| secure.exactly(length).map_err(|cut| format!("{cut:?}"));
        let head = exactly(2)?;
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(exactly(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(exactly(8)?.try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        let part = exactly(length)?;
        match head[0] & 0x0f {
            8 => return Err(format!("closed: {part:?}")),
            9 => {}
            _ => heard.extend(part),
        }
    }
    if heard == payload { Ok(()) } else { Err("the echo differs".to_owned()) }
}

#[test]
fn websockets_move_with_tls_on_both_sides_and_go_on_in_traffic() {
    const CLIENTS: usize = 60;
    let (authority, issuer, origin) = (Authority::new(), Issuer::new(), Origin::named("a"));
    let pair = authority.issue("a", &["localhost"]);
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)), false, origin.address());
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}
upstreams: {{ all: {{ endpoints: ['{}'], tls: {{ ca: {} }} }} }}
routes:
  - {{ name: plain, path: /plain, upstream: ['{origin}'] }}
  - {{ name: tls, path: /tls, upstream: all }}
",
        pair.cert.display(),
        pair.key.display(),
        front.address,
        quoted(&issuer.file("ca.pem")),
    ));
    let tls = gateway.listener("tls");
    let (ends, echoed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (ends, echoed) = (Arc::clone(&ends), Arc::clone(&echoed));
            // TLS with the client, with the backend, and with both.
            let path = if number % 3 == 0 { "/plain" } else { "/tls" };
            let mut secure = open_secure(&authority.client(), tls, path);
            thread::spawn(move || {
                let length = [5, 126, 4000, 40_000, 300_000][number % 5];
                let mut turn = 0_u32;
                while !ends.load(SeqCst) {
                    turn += 1;
                    let mut message = vec![b'a' + (number % 26) as u8; length];
                    message.splice(..5, format!("{turn:05}").into_bytes());
                    echo_over(&mut secure, &message).map_err(|why| format!("{number}, {turn}: {why}"))?;
                    echoed.fetch_add(1, SeqCst);
                }
                Ok::<_, String>(secure)
            })
        })
        .collect();
    let mut idle = open_secure(&authority.client(), tls, "/plain");
    let mut to_backend = Socket::open(gateway.web(), "/tls");
    let all = CLIENTS as u64 + 2;
    for round in 0..5 {
        let goal = echoed.load(SeqCst) + 2 * CLIENTS;
        eventually("messages are echoed", || (echoed.load(SeqCst) >= goal).then_some(()));
        assert_eq!(upgraded(&gateway), (all, 0), "round {round}");
    }
    let goal = echoed.load(SeqCst) + CLIENTS;
    eventually("messages are echoed", || (echoed.load(SeqCst) >= goal).then_some(()));
    ends.store(true, SeqCst);
    let outcomes: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(failures, [""; 0]);
    echo_over(&mut idle, b"still open").unwrap();
    to_backend.echo("still open");
    idle.send(&masked(8, &1000_u16.to_be_bytes())).unwrap();
    assert_eq!(idle.exactly(4).unwrap(), [0x88, 2, 3, 232]);
    drop(outcomes);
}

#[test]
fn tls_1_2_is_asked_to_reconnect() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - name: web
    address: 127.0.0.1:0
    tls: {{ certificates: [{{ cert: '{}', key: '{}' }}], min_version: '1.2' }}
routes: [{{ name: all, upstream: ['{origin}'], websocket: {{ drain_window: 0s }} }}]
",
        pair.cert.display(),
        pair.key.display()
    ));
    let client = authority.client_with(&[&rustls::version::TLS12], None);
    let mut secure = open_secure(&client, gateway.web(), "/ws");
    echo_over(&mut secure, b"open").unwrap();
    assert_eq!(upgraded(&gateway), (0, 1));
    let close = secure.exactly(4).unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1012));
}
