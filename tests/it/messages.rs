//! Routes whose plugins inspect messages: forwarded, dropped and unchanged messages, and closed WebSockets.

use crate::support::ws::{accepted, frame, handshake, masked, open_raw, read_frame};
use crate::support::{Gateway, Next, Origin, Socket, eventually};

const TEXT: u8 = 1;

/// A route with this filter before that backend.
fn filtered(origin: &Origin, filter: &str) -> Gateway {
    Gateway::start(&format!(
        "routes: [{{ name: chat, upstream: ['{origin}'], plugins: [{{ kind: message_filter, {filter} }}] }}]"
    ))
}

#[test]
fn plugin_fields_are_on_the_last_line() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = Gateway::start(&format!(
        "access_log: {{ path: '{}' }}
routes:
  - upstream: ['{a}']
    plugins: [{{ kind: message_filter, name: words, deny: [secret], action: drop }}]",
        log.display()
    ));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.say("secret");
    socket.echo("well then");
    socket.close();
    let line = eventually("the last line", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().find(|line| line.contains("\"close\"")).map(str::to_owned)
    });
    assert!(line.contains(r#""plugins":{"words":{"refused":"to_backend"}}"#), "{line}");
}

fn closed(gateway: &Gateway, code: &str, reason: &str) {
    let labels = [("route", "chat"), ("code", code), ("by", "gateway"), ("reason", reason)];
    eventually("the end is counted", || {
        (gateway.metrics().sum("moongate_websocket_closed_total", &labels) >= 1.0).then_some(())
    });
}

#[test]
fn allowed_messages_pass_whole_and_others_close_both_sides() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "deny: [secret], code: 4003, reason: not here");
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("hello");
    socket.echo_bytes(&[0xff; 100_000]);
    socket.say("my SECRET is safe, my secret is not");
    assert_eq!(socket.end(), Some(4003));
    a.await_sockets(0);
    closed(&gateway, "4003", "plugin");
}

#[test]
fn a_list_of_texts_passes_no_binary_message_unless_configured() {
    let origin = Origin::named("a");
    for (filter, passes) in [
        (r"allow: ['^\{']", false),
        (r"allow: ['^\{'], binary: allow", true),
        (r"allow: ['^\{'], binary: deny", false),
        (r"deny: ['x']", true),
    ] {
        let gateway = filtered(&origin, filter);
        let mut socket = Socket::open(gateway.web(), "/");
        socket.echo("{}");
        if passes {
            socket.echo_bytes(b"{\xff");
        } else {
            socket.say_bytes(b"{}");
            assert_eq!(socket.end(), Some(1008), "{filter}");
        }
    }
}

#[test]
fn a_word_in_two_fragments_is_detected() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "deny: [secret]");
    let mut wire = open_raw(gateway.web(), "/ws");
    let mut first = masked(TEXT, b"a sec");
    first[0] = 0x01;
    let mut rest = masked(0, b"ret");
    rest[0] = 0x80;
    wire.send(first);
    wire.send(masked(9, b"meanwhile"));
    assert_eq!(read_frame(&mut wire).unwrap(), (0x8a, b"meanwhile".to_vec()), "a ping waits for nothing");
    wire.send(rest);
    let (first, payload) = read_frame(&mut wire).unwrap();
    assert_eq!(
        (first, &payload[..]),
        (0x88, &[&1008_u16.to_be_bytes()[..], b"message refused"].concat()[..])
    );
}

#[test]
fn a_dropped_message_affects_no_other() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "direction: both, allow: ['^[a-z ]+$'], binary: deny, action: drop");
    let mut socket = Socket::open(gateway.web(), "/ws");
    for text in ["NO", "no 1", ""] {
        socket.say(text);
    }
    socket.echo("yes");
    socket.close();
    let from_client = [("route", "chat"), ("direction", "to_backend"), ("opcode", "text")];
    let count = || gateway.metrics().sum("moongate_websocket_messages_total", &from_client);
    eventually("what was dropped is counted too", || (count() >= 4.0).then_some(()));
}

#[test]
fn a_backends_messages_are_inspected_if_configured() {
    let talker = Origin::scripted("talker", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        for text in ["one", "password: x", "two"] {
            wire.try_send(frame(TEXT, text.as_bytes())).unwrap();
        }
        let _ = read_frame(wire);
        Next::Close
    });
    let gateway = filtered(&talker, "direction: to_client, deny: [password], action: drop");
    let mut socket = Socket::open(gateway.web(), "/ws");
    assert_eq!((socket.hear(), socket.hear()), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn extensions_are_not_offered_where_messages_are_inspected() {
    let a = Origin::scripted("a", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        let _ = read_frame(wire);
        Next::Close
    });
    let gateway = filtered(&a, "deny: [secret]");
    let mut wire = gateway.wire();
    wire.send(handshake(
        "/ws",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other\r\n\
         Sec-WebSocket-Protocol: chat\r\n",
    ));
    let response = wire.response();
    assert_eq!((response.status, response.field("sec-websocket-extensions")), (101, None));
    let seen = &a.seen()[0];
    assert_eq!(seen.field("sec-websocket-extensions"), None);
    assert_eq!(seen.field("sec-websocket-protocol"), Some("chat"));
    // A frame with the bit of compression is invalid.
    let mut compressed = masked(TEXT, b"secret?");
    compressed[0] |= 0x40;
    wire.send(compressed);
    let (first, payload) = read_frame(&mut wire).unwrap();
    assert_eq!((first, &payload[..2]), (0x88, &1002_u16.to_be_bytes()[..]));
}

#[test]
fn an_extension_that_was_not_offered_is_a_broken_handshake() {
    let a = Origin::scripted("a", |seen, wire| {
        wire.try_send(accepted(seen, "Sec-WebSocket-Extensions: permessage-deflate\r\n")).unwrap();
        Next::Close
    });
    let gateway = filtered(&a, "deny: [secret]");
    let mut wire = gateway.wire();
    wire.send(handshake("/ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert_eq!(wire.response().status, 502);
}

#[test]
fn a_message_above_a_megabyte_is_1009_unless_the_route_allows_more() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "deny: [secret]");
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo_bytes(&vec![7; 1 << 20]);
    let mut wire = open_raw(gateway.web(), "/ws");
    wire.send(&masked(2, &vec![7; (1 << 20) + 1])[..1000]);
    assert_eq!(read_frame(&mut wire).unwrap().1[..2], 1009_u16.to_be_bytes());
    let more = Gateway::start(&format!(
        "routes: [{{ upstream: ['{a}'], plugins: [{{ kind: message_filter, deny: [secret] }}],
                     websocket: {{ max_message: 4MiB }} }}]"
    ));
    Socket::open(more.web(), "/ws").echo_bytes(&vec![7; 4 << 20]);
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "max_size: 1KiB");
    let mut wire = open_raw(gateway.web(), "/ws");
    wire.send(masked(TEXT, b"\xc0\xaf"));
    assert_eq!(read_frame(&mut wire).unwrap().1[..2], 1007_u16.to_be_bytes());
    closed(&gateway, "1007", "client_invalid_frame");
}

#[test]
fn a_client_with_inspected_messages_survives_its_backend() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "routes:
  - name: chat
    upstream: ['{a}', '{b}']
    plugins: [{{ kind: message_filter, direction: both, deny: [secret], action: drop }}]
    websocket: {{ on_endpoint_loss: reconnect }}"
    ));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("before");
    let (lost, left) = if socket.backend == "a" { (&a, &b) } else { (&b, &a) };
    lost.die();
    socket.say("a secret");
    left.await_sockets(1);
    socket.echo("after");
    socket.close();
}

#[test]
fn messages_of_many_clients_at_once_stay_their_own() {
    let a = Origin::named("a");
    let gateway = filtered(&a, "direction: both, deny: [secret]");
    let web = gateway.web();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            std::thread::spawn(move || {
                let mut sockets: Vec<_> = (0..8).map(|_| Socket::open(web, "/ws")).collect();
                for round in 0..50 {
                    for (at, socket) in sockets.iter_mut().enumerate() {
                        let size = (client * 7919 + at * 104_729 + round * 1_299_709) % 70_000;
                        socket.echo(&format!("{client}.{at}.{round}.").repeat(1 + size / 10));
                    }
                }
                sockets.into_iter().for_each(Socket::close);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}
