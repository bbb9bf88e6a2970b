//! Failover: a backend ends, and its clients stay connected.

use crate::support::ws::{accepted, frame, handshake, masked, read_frame};
use crate::support::{Gateway, Next, Origin, Socket, Wire, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A route with failover, before these backends.
fn keeping(endpoints: &[&Origin], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|origin| format!("'{origin}'")).collect();
    format!(
        "upstreams:
  chat: {{ endpoints: [{}], balance: least_connections }}
routes:
  - {{ name: chat, upstream: chat, websocket: {{ on_endpoint_loss: reconnect{more} }} }}",
        endpoints.join(", ")
    )
}

/// A client that echoes until it is stopped. It repeats messages without an echo: messages in transit are
/// lost when a backend is killed, all others are not.
fn talk(sockets: &mut [Socket], echoes: &AtomicUsize, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(SeqCst) {
        number += 1;
        for socket in &mut *sockets {
            let text = number.to_string();
            socket.say(&text);
            loop {
                match socket.hear_within(Duration::from_secs(1)) {
                    Some(heard) if heard == text => break,
                    Some(heard) => {
                        assert!(heard.parse::<u32>().unwrap() < number, "{heard} is from the future");
                    }
                    None => socket.say(&text),
                }
            }
            echoes.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn five_hundred_clients_do_not_notice_that_their_backend_is_killed() {
    const THREADS: usize = 10;
    const EACH: usize = 50;
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&keeping(&[&a, &b], ""));
    let (echoes, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..THREADS)
        .map(|_| {
            let mut sockets: Vec<_> = (0..EACH).map(|_| Socket::open(gateway.web(), "/ws")).collect();
            let (echoes, stop) = (Arc::clone(&echoes), Arc::clone(&stop));
            std::thread::spawn(move || {
                talk(&mut sockets, &echoes, &stop);
                sockets
            })
        })
        .collect();
    let rounds = |count: usize| {
        let goal = echoes.load(SeqCst) + count * THREADS * EACH;
        let failed = || clients.iter().any(std::thread::JoinHandle::is_finished);
        eventually("all of them go on", || (echoes.load(SeqCst) >= goal || failed()).then_some(()));
        assert!(!failed(), "a client was closed");
    };
    rounds(1);
    a.die();
    rounds(3);
    b.await_sockets(THREADS * EACH);
    a.revive();
    b.die();
    rounds(3);
    a.await_sockets(THREADS * EACH);
    stop.store(true, SeqCst);
    let sockets: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();

    let metrics = gateway.metrics();
    let at = |origin: &Origin| {
        let labels = [("route", "chat"), ("endpoint", &*origin.to_string())];
        metrics.sum("moongate_websocket_connections_active", &labels)
    };
    assert_eq!((at(&a), at(&b)), (500.0, 0.0));
    assert_eq!(
        (gateway.active("chat", a.address()), gateway.active("chat", b.address())),
        (Some(500), Some(0))
    );
    let moved = [("route", "chat"), ("upstream", "chat"), ("result", "moved")];
    assert!(metrics.sum("moongate_websocket_reconnected_total", &moved) >= 750.0);
    assert!(!metrics.has("moongate_websocket_closed_total", &[("route", "chat")]));
    drop(sockets);
}

#[test]
fn a_client_moves_to_an_endpoint_that_a_reload_brought() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&keeping(&[&a], ""));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("before");
    gateway.reload(&keeping(&[&b], "")).unwrap();
    socket.echo("a reload moves nobody");
    assert_eq!(b.sockets(), 0);
    a.die();
    b.await_sockets(1);
    socket.echo("after");
    socket.close();
}

#[test]
fn a_backend_that_restarts_is_waited_for() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&keeping(&[&a], ""));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("before");
    a.die();
    socket.say("meanwhile");
    eventually("the gateway has tried in vain", || {
        (gateway.metrics().sum("moongate_upstream_failures_total", &[]) > 1.0).then_some(())
    });
    a.revive();
    assert_eq!(socket.hear(), b"meanwhile");
    socket.echo("after");
}

#[test]
fn the_second_backend_gets_the_same_handshake() {
    let answer = |seen: &crate::support::Seen, wire: &mut Wire| {
        wire.try_send(accepted(seen, "Sec-WebSocket-Protocol: chat\r\n")).unwrap();
        let _ = read_frame(wire);
        wire.try_send(frame(CLOSE, &1012_u16.to_be_bytes())).unwrap();
        Next::Close
    };
    let (a, b) = (Origin::scripted("a", answer), Origin::scripted("b", answer));
    let gateway = Gateway::start(&keeping(&[&a, &b], ""));
    let mut wire = gateway.wire();
    let more = "Sec-WebSocket-Protocol: chat, other\r\nCookie: session=1\r\nX-Own: kept\r\n";
    wire.send(handshake("/ws?room=7", more));
    assert_eq!(wire.response().field("sec-websocket-protocol"), Some("chat"));
    wire.send(masked(TEXT, b"go"));
    let first = if a.count() == 1 { (&a, &b) } else { (&b, &a) };
    assert_eq!(first.0.await_seen(1)[0].head, first.1.await_seen(1)[0].head);
}

#[test]
fn another_agreement_is_a_failed_attempt() {
    let a = Origin::named("a");
    let b = Origin::scripted("b", |seen, wire| {
        wire.try_send(accepted(seen, "Sec-WebSocket-Protocol: chat\r\n")).unwrap();
        let _ = wire.fill();
        Next::Close
    });
    let gateway = Gateway::start(&keeping(&[&a], ", reconnect_timeout: 1s"));
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", "Sec-WebSocket-Protocol: chat\r\n"));
    assert_eq!(wire.response().status, 101);
    gateway.reload(&keeping(&[&b], ", reconnect_timeout: 1s")).unwrap();
    a.die();
    let (first, payload) = read_frame(&mut wire).unwrap();
    assert_eq!((first, &payload[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
    assert!(gateway.metrics().sum("moongate_websocket_reconnected_total", &[("result", "failed")]) >= 1.0);
    let labels = [("endpoint", &*b.to_string()), ("reason", "other_agreement")];
    assert!(gateway.metrics().has("moongate_upstream_failures_total", &labels));
}

#[test]
fn compression_is_agreed_without_contexts() {
    let a = Origin::scripted("a", |seen, wire| {
        let answer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
        wire.try_send(accepted(seen, answer)).unwrap();
        let _ = wire.fill();
        Next::Close
    });
    let gateway = Gateway::start(&keeping(&[&a], ""));
    let mut wire = gateway.wire();
    let offer = "Sec-WebSocket-Extensions: x-own, permessage-deflate; client_max_window_bits\r\n";
    wire.send(handshake("/ws", offer));
    let told = wire.response();
    let seen = a.await_seen(1);
    assert_eq!(
        seen[0].field("sec-websocket-extensions"),
        Some(
            "permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover"
        )
    );
    assert_eq!(
        told.field("sec-websocket-extensions"),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
}

#[test]
fn a_move_is_in_the_access_log() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway =
        Gateway::start(&format!("access_log: {{ path: '{}' }}\n{}", log.display(), keeping(&[&a, &b], "")));
    let mut socket = Socket::open(gateway.web(), "/ws");
    let (lost, found) = if socket.backend == "a" { (&a, &b) } else { (&b, &a) };
    lost.die();
    found.await_sockets(1);
    socket.echo("moved");
    socket.close();
    let lines = eventually("three lines", || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines: Vec<serde_json::Value> =
            text.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
        (lines.len() == 3).then_some(lines)
    });
    let told: Vec<_> = lines.iter().map(|line| (line["event"].clone(), line["endpoint"].clone())).collect();
    let (lost, found) = (lost.to_string(), found.to_string());
    assert_eq!(
        told,
        [
            ("open".into(), lost.clone().into()),
            ("reconnect".into(), found.clone().into()),
            ("close".into(), found.into())
        ]
    );
    assert_eq!((lines[1]["from"].as_str(), lines[1]["reason"].as_str()), (Some(&*lost), Some("eof")));
}

#[test]
fn without_the_setting_a_lost_backend_closes_the_client() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{a}', '{b}'] }}]"));
    let mut socket = Socket::open(gateway.web(), "/ws");
    let lost = if socket.backend == "a" { &a } else { &b };
    lost.die();
    assert_eq!(socket.end(), Some(1001));
}
