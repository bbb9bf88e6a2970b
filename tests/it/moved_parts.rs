//! What moves with a WebSocket besides its bytes: failover, plugins, rechecks, limits per client, traces.

use crate::guards::service;
use crate::moved_websockets::upgraded;
use crate::support::access_log::AccessLog;
use crate::support::collector::{Collector, INTERNAL};
use crate::support::ws::{accepted, masked, open_raw, read_frame};
use crate::support::{Gateway, Next, Origin, Socket, eventually};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, mpsc};

const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;
const PONG: u8 = 10;

#[test]
fn a_moved_websocket_still_survives_the_loss_of_its_backend() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "upstreams: {{ chat: {{ endpoints: ['{a}', '{b}'] }} }}
routes: [{{ name: chat, upstream: chat, websocket: {{ on_endpoint_loss: reconnect }} }}]
"
    ));
    let mut socket = Socket::open(gateway.web(), "/ws?room=7");
    socket.echo("before");
    let (first, second) = if socket.backend == "a" { (&a, &b) } else { (&b, &a) };
    // A message whose start is written: the next backend gets it from its start.
    let mut partial = open_raw(gateway.web(), "/ws");
    let mut start = masked(TEXT, b"in ");
    start[0] &= 0x7f;
    partial.send(&start);
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (2, 0));
    }
    socket.echo("moved");
    // The first one last: its clients find no other meanwhile.
    second.die();
    first.die();
    second.revive();
    second.await_sockets(2);
    socket.echo("after");
    let mut rest = masked(CONTINUATION, b"pieces");
    rest[0] |= 0x80;
    partial.send(&rest);
    assert_eq!(read_frame(&mut partial).unwrap(), (0x80 | TEXT, b"in pieces".to_vec()));
    let targets: Vec<_> = second.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert!(targets.iter().any(|target| target == "/ws?room=7"), "{targets:?}");
    assert_eq!(first.sockets(), 0);
    let moved = gateway.metrics().sum("moongate_websocket_reconnected_total", &[("result", "moved")]);
    assert_eq!(moved, 2.0);
}

#[test]
fn a_message_is_filtered_whole_although_its_half_came_before_the_upgrade() {
    let (origin, log) = (Origin::named("a"), AccessLog::new());
    let gateway = Gateway::start(&format!(
        "{}routes: [{{ name: chat, upstream: ['{origin}'], plugins: [{{ kind: message_filter, name: words, deny: [secret], action: drop }}] }}]
",
        log.yaml()
    ));
    let mut wire = open_raw(gateway.web(), "/ws");
    let send = |wire: &mut crate::support::Wire, opcode, is_last: bool, text: &str| {
        let mut frame = masked(opcode, text.as_bytes());
        frame[0] = opcode | if is_last { 0x80 } else { 0 };
        wire.send(&frame);
    };
    send(&mut wire, TEXT, true, "a secret");
    send(&mut wire, TEXT, false, "se");
    assert_eq!(upgraded(&gateway), (1, 0));
    send(&mut wire, CONTINUATION, true, "cret");
    send(&mut wire, TEXT, false, "he");
    assert_eq!(upgraded(&gateway), (1, 0));
    send(&mut wire, CONTINUATION, true, "llo");
    assert_eq!(read_frame(&mut wire).unwrap(), (0x80 | TEXT, b"hello".to_vec()));
    drop(wire);
    let line = log.wait("the end", |line| line["event"] == "close");
    assert_eq!(line["plugins"]["words"]["refused"], "to_backend");
}

#[test]
fn the_table_of_a_script_continues() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        r#"routes:
  - name: chat
    upstream: ['{origin}']
    plugins:
      - kind: luau
        source: |
          function request_headers(req)
              req:ctx().names = {{ "a", "b" }}
              req:ctx().user = {{ name = req:header("x-user"), seen = 0 }}
          end
          function message(ws, msg)
              if not msg:to_backend() then return end
              local user = ws:ctx().user
              user.seen += 1
              msg:set(user.name .. user.seen .. #ws:ctx().names)
          end
"#
    ));
    let mut socket = Socket::open_with(gateway.web(), "/ws", &[("x-user", "ann")]).ok().unwrap();
    let mut say = |expected: &str| {
        socket.say("?");
        assert_eq!(socket.hear(), expected.as_bytes());
    };
    say("ann12");
    upgraded(&gateway);
    say("ann22");
    // Twice without a call between.
    upgraded(&gateway);
    upgraded(&gateway);
    say("ann32");
}

#[test]
fn a_plugin_that_was_left_out_of_the_handshake_is_left_out_of_later_rechecks() {
    let origin = Origin::named("a");
    let (auth, _open) = service();
    let gateway = Gateway::start(&format!(
        r#"upstreams: {{ auth: {{ endpoints: [{auth}] }} }}
routes:
  - upstream: [{origin}]
    plugins:
      - {{ kind: forward_auth, name: never, upstream: auth, path: /never, recheck: 1s, when: request.path == "/other" }}
      - {{ kind: forward_auth, name: always, upstream: auth, path: /always, recheck: 1s }}
"#
    ));
    let mut socket = Socket::open_with(gateway.web(), "/", &[("authorization", "yes")]).ok().unwrap();
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (1, 0));
        let before = auth.count();
        eventually("it is asked about again", || (auth.count() >= before + 3).then_some(()));
        socket.echo("still good");
    }
    let asked: Vec<_> = auth.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert!(asked.iter().all(|target| target == "/always"), "{asked:?}");
}

#[test]
fn a_moved_websocket_is_rechecked_with_its_first_credential() {
    let origin = Origin::named("a");
    let (auth, open) = service();
    let gateway = Gateway::start(&format!(
        "upstreams: {{ auth: {{ endpoints: [{auth}] }} }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: forward_auth, upstream: auth, recheck: 1s }}] }}]
"
    ));
    let mut socket = Socket::open_with(gateway.web(), "/", &[("authorization", "yes")]).ok().unwrap();
    assert_eq!(upgraded(&gateway), (1, 0));
    let before = auth.count();
    eventually("it is asked about again", || (auth.count() >= before + 2).then_some(()));
    assert_eq!(auth.seen().last().unwrap().fields("authorization"), ["yes"]);
    socket.echo("still good");
    open.store(false, SeqCst);
    assert_eq!(socket.end(), Some(1008));
}

#[test]
fn a_limit_per_client_counts_moved_websockets_by_the_key_that_they_came_with() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: ['{origin}'], websocket: {{ max_connections_per_client: {{ limit: 1, key: 'header:X-User' }}, drain_window: 0s }} }}]
"
    ));
    let open = |user: &str| Socket::open_with(gateway.web(), "/ws", &[("x-user", user)]);
    let ann = open("ann").ok().unwrap();
    let _bob = open("bob").ok().unwrap();
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (2, 0));
        assert_eq!(open("ann").err(), Some(429));
    }
    assert!(open("eve").is_ok());
    ann.close();
    eventually("her place is free", || open("ann").ok());
}

#[test]
fn the_span_of_a_moved_websocket_is_exported_once_and_whole() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = Gateway::start(&format!(
        "{}upstreams: {{ app: {{ endpoints: ['{origin}'] }} }}
routes: [{{ name: chat, path: /ws, upstream: app }}]
",
        collector.yaml("")
    ));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("one");
    let (handshake, _) = collector.request("/ws");
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (1, 0));
    }
    socket.echo("two");
    socket.close();
    let span = collector.wait("its span", |spans| spans.into_iter().find(|span| span.kind == INTERNAL));
    assert_eq!(span.links, [(handshake.trace.clone(), handshake.id.clone())]);
    assert_eq!(handshake.links, [(span.trace.clone(), span.id.clone())]);
    assert_eq!(
        (&*span.name, span.get("url.path"), span.get("moongate.generation")),
        ("websocket chat", &"/ws".into(), &1.into())
    );
    assert_eq!(span.get("moongate.websocket.messages.to_backend"), 2);
    assert_eq!(span.get("moongate.websocket.endpoints"), &serde_json::json!([origin.to_string()]));
    assert!(span.start >= handshake.start && span.end > handshake.end);
    assert_eq!(collector.spans().iter().filter(|span| span.kind == INTERNAL).count(), 1);
}

#[test]
fn pongs_to_the_pings_of_earlier_processes_go_no_further() {
    let (sender, received) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::scripted("frames", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        while let Ok(frame) = read_frame(wire) {
            sender.lock().unwrap().send(frame).unwrap();
        }
        Next::Close
    });
    let gateway = Gateway::start(&format!(
        "routes: [{{ name: chat, upstream: ['{origin}'], websocket: {{ ping_interval: 200ms, ping_timeout: 30s }} }}]\n"
    ));
    let mut wire = open_raw(gateway.web(), "/ws");
    let mut pongs = Vec::new();
    for round in 0..3 {
        let (first, payload) = read_frame(&mut wire).unwrap();
        assert_eq!(first, 0x89);
        pongs.push(masked(PONG, &payload));
        assert_eq!(upgraded(&gateway), (1, 0), "round {round}");
        // A sign of life without a pong: the next ping follows.
        wire.send(masked(TEXT, b"alive"));
    }
    wire.send([pongs.concat(), masked(TEXT, b"end")].concat());
    let texts: Vec<_> = received.iter().filter(|(first, _)| *first != 0x89).take(4).collect();
    let expected = [&b"alive"[..], b"alive", b"alive", b"end"].map(|text| (0x80 | TEXT, text.to_vec()));
    assert_eq!(texts, expected);
}
