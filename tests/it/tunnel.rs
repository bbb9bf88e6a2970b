//! Tunnels after the 101: every byte arrives, in order, at the pace of its reader, for any duration.

use crate::support::eventually::within;
use crate::support::ws::{accepted, frame, handshake, masked, open_raw, read_frame};
use crate::support::{Gateway, LIMIT, Next, Origin, Socket, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn to(origin: &Origin) -> Gateway {
    Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"))
}

#[test]
fn frames_sent_behind_the_handshake_arrive() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut packet = handshake("/ws", "").into_bytes();
    for n in 0..50 {
        packet.extend(masked(TEXT, format!("early {n}").as_bytes()));
    }
    let mut wire = gateway.wire();
    wire.send(packet);
    assert_eq!(wire.response().status, 101);
    for n in 0..50 {
        assert_eq!(read_frame(&mut wire).unwrap(), (0x81, format!("early {n}").into_bytes()));
    }
    wire.send(masked(TEXT, b"late"));
    assert_eq!(read_frame(&mut wire).unwrap().1, b"late");
}

/// More than all buffers hold, before the backend has responded.
#[test]
fn a_megabyte_behind_the_handshake_arrives() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let body: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let (mut sender, mut wire) = {
        let (stream, _) = gateway.wire().into_parts();
        (stream.try_clone().unwrap(), crate::support::Wire::of(stream))
    };
    let packet = [handshake("/ws", "").as_bytes(), &masked(BINARY, &body)].concat();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &packet).unwrap());
    assert_eq!(wire.response().status, 101);
    assert!(read_frame(&mut wire).unwrap() == (0x82, body));
    sending.join().unwrap();
}

#[test]
fn messages_of_every_size_come_back() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut socket = Socket::open(gateway.web(), "/ws");
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000, 1 << 20, 4 << 20] {
        let body: Vec<u8> = (0..size).map(|n: u32| (n % 253) as u8).collect();
        socket.echo_bytes(&body);
    }
    socket.close();
}

#[test]
fn frames_split_at_every_byte_come_back() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut wire = open_raw(gateway.web(), "/ws");
    for byte in masked(TEXT, &[b'x'; 200]) {
        wire.send([byte]);
    }
    assert_eq!(read_frame(&mut wire).unwrap(), (0x81, vec![b'x'; 200]));
}

#[test]
fn a_close_frame_passes_with_its_code() {
    let closing = Origin::scripted("closing", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        wire.try_send(frame(8, &[&4001_u16.to_be_bytes()[..], b"bye"].concat())).unwrap();
        let _ = read_frame(wire);
        Next::Close
    });
    let gateway = to(&closing);
    assert_eq!(Socket::open(gateway.web(), "/ws").end(), Some(4001));
}

#[test]
fn bytes_of_a_client_that_left_are_delivered() {
    let (said, hears) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let listening = Origin::scripted("listening", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        while let Ok((first, payload)) = read_frame(wire) {
            if first & 0x0f == TEXT {
                said.lock().unwrap().send(payload).unwrap();
            }
        }
        Next::Close
    });
    let gateway = to(&listening);
    let mut wire = open_raw(gateway.web(), "/ws");
    let all: Vec<u8> = (0..500).flat_map(|n| masked(TEXT, format!("last words {n}").as_bytes())).collect();
    wire.send(all);
    wire.half_close();
    for n in 0..500 {
        let heard = hears.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("message {n}: {e}"));
        assert_eq!(heard, format!("last words {n}").into_bytes());
    }
}

#[test]
fn bytes_of_a_backend_that_left_are_delivered_to_a_slow_client() {
    let body = vec![b'x'; 3 << 20];
    let packet = frame(BINARY, &body);
    let leaving = Origin::scripted("leaving", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        wire.try_send(&packet).unwrap();
        Next::Close
    });
    let gateway = to(&leaving);
    let mut wire = open_raw(gateway.web(), "/ws");
    leaving.await_seen(1);
    assert!(read_frame(&mut wire).unwrap() == (0x82, body));
}

#[test]
fn a_client_that_half_closes_still_gets_its_response() {
    let body = vec![b'y'; 1 << 20];
    let packet = frame(BINARY, &body);
    let answering = Origin::scripted("answering", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        read_frame(wire).unwrap();
        wire.try_send(&packet).unwrap();
        // The client's end is read: closing with it unread would reset the connection.
        while read_frame(wire).is_ok() {}
        Next::Close
    });
    let gateway = to(&answering);
    let mut wire = open_raw(gateway.web(), "/ws");
    wire.send(masked(TEXT, b"all of it, please"));
    wire.half_close();
    assert!(read_frame(&mut wire).unwrap() == (0x82, body));
}

#[test]
fn a_backend_that_vanishes_ends_the_clients_side() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("hello");
    a.die();
    socket.end();
}

#[test]
fn a_client_that_vanishes_ends_the_backends_side() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let socket = Socket::open(gateway.web(), "/ws");
    a.await_sockets(1);
    drop(socket);
    a.await_sockets(0);
}

/// A reader that stops also stops its writer; the gateway buffers a bounded amount and loses nothing.
#[test]
fn a_client_that_does_not_read_stops_its_backend() {
    const FRAMES: usize = 2048;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let pouring = Origin::scripted("pouring", move |seen, wire| {
        if seen.field("upgrade").is_none() {
            wire.try_send(crate::support::origin::answer(404, "", b"")).unwrap();
            return Next::Keep;
        }
        wire.try_send(accepted(seen, "")).unwrap();
        let packet = frame(BINARY, &[7; 64 << 10]);
        for _ in 0..FRAMES {
            if wire.try_send(&packet).is_err() {
                return Next::Close;
            }
            counter.fetch_add(1, SeqCst);
        }
        let _ = wire.fill();
        Next::Close
    });
    let yaml = format!("server: {{ threads: 1 }}\nroutes: [{{ upstream: ['{pouring}'] }}]");
    let gateway = Gateway::start(&yaml);
    // The first request of a thread allocates memory that must not count here.
    assert_eq!(gateway.get("/").status, 404);
    let before = gateway.memory();
    let mut wire = open_raw(gateway.web(), "/ws");

    let mut last = (0, Instant::now());
    within(LIMIT, "the backend stops writing", || {
        let now = written.load(SeqCst);
        if now != last.0 || now == 0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(500)).then_some(())
    });
    assert!(last.0 < FRAMES, "128 MiB went somewhere");
    let growth = gateway.memory() - before;
    // 128 MiB were sent; the buffered amount must be a small part of it, whatever the allocator holds.
    assert!(growth < 16 << 10, "the gateway keeps {growth} KiB");

    for n in 0..FRAMES {
        let (_, payload) = read_frame(&mut wire).unwrap_or_else(|e| panic!("frame {n}: {e}"));
        assert!(payload.len() == 64 << 10 && payload.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn silence_past_the_idle_timeout_closes_both_sides() {
    let a = Origin::named("a");
    let gateway =
        Gateway::start(&format!("routes: [{{ upstream: ['{a}'], websocket: {{ idle_timeout: 2s }} }}]"));
    let mut socket = Socket::open(gateway.web(), "/ws");
    // Data restarts the idle timeout.
    socket.stay_silent(Duration::from_millis(1300));
    socket.echo("not idle");
    socket.stay_silent(Duration::from_millis(1300));
    socket.echo("not idle");
    let start = Instant::now();
    socket.end();
    assert!((1500..6000).contains(&start.elapsed().as_millis()), "closed after {:?}", start.elapsed());
    a.await_sockets(0);
}

/// The only slow test: Pingora has an internal timeout of 60 s, and only a longer wait shows that it does not
/// apply. The route's `timeout` (for HTTP) is short, since it must not apply either.
#[test]
fn sixty_five_seconds_of_silence_cut_nothing() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{a}'], timeout: 1s }}]"));
    let mut socket = Socket::open(gateway.web(), "/ws");
    let mut spoken = Socket::open(gateway.web(), "/ws");
    spoken.echo("once");
    // Both respond to the gateway's pings and send nothing else.
    std::thread::scope(|scope| {
        scope.spawn(|| spoken.stay_silent(Duration::from_secs(65)));
        socket.stay_silent(Duration::from_secs(65));
    });
    socket.echo("still here");
    spoken.echo("twice");
}

#[test]
fn open_websockets_are_counted_until_they_end() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: ['{a}'] }}
routes: [{{ name: chat, upstream: all }}]"
    ));
    let mut sockets: Vec<_> = (0..3).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("hello"));
    let labels = [("route", "chat"), ("upstream", "all")];
    let open = || gateway.metrics().sum("moongate_websocket_connections_active", &labels) as u64;
    assert_eq!(open(), 3);
    assert_eq!(gateway.status()["websockets"], 3);
    assert_eq!(gateway.active("all", a.address()), Some(3));
    sockets.into_iter().for_each(Socket::close);
    eventually("all of them are gone", || (open() == 0).then_some(()));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("moongate_websocket_opened_total", &[("route", "chat")]), 3.0);
    assert_eq!(metrics.sum("moongate_websocket_closed_total", &[("route", "chat")]), 3.0);
    let messages = metrics.sum("moongate_websocket_messages_total", &[("route", "chat"), ("opcode", "text")]);
    assert_eq!(messages, 6.0, "three there, three back");
    let timed = metrics.sum("moongate_http_request_duration_seconds_count", &[("route", "chat")]);
    assert_eq!(timed, 0.0, "a WebSocket is no slow request");
}
