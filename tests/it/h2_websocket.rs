//! WebSockets over HTTP/2 (RFC 8441): the same handshake and the same tunnel, on streams that share a
//! connection.

use crate::support::frames::{DATA, Frames, GOAWAY, HEADERS, RST_STREAM, request};
use crate::support::h2ws::{Client, Stream, certificate};
use crate::support::ws::{accepted, frame, read_frame};
use crate::support::{Gateway, Next, Origin, eventually};
use h2::Reason;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

fn start(routes: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\n{routes}"
    ))
}

fn to(origin: &Origin) -> Gateway {
    start(&format!("routes: [{{ upstream: ['{origin}'] }}]"))
}

fn closed(code: u16) -> (u8, Vec<u8>) {
    (0x80 | CLOSE, code.to_be_bytes().to_vec())
}

#[test]
fn a_websocket_opens_echoes_and_closes() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let client = Client::plain(gateway.web());
    let fields = [("origin", "https://app.example"), ("sec-websocket-protocol", "chat, v2.chat")];
    let mut socket = client.open_with("/ws?room=1", &fields).ok().unwrap();
    assert_eq!(socket.fields["x-backend"], "a", "fields of the 101 come through");
    for gone in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
        assert!(!socket.fields.contains_key(gone), "{gone}");
    }
    socket.echo("hello");
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "GET /ws?room=1 HTTP/1.1");
    assert_eq!(seen.field("host"), Some(gateway.web().to_string().as_str()));
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert_eq!(seen.field("origin"), Some("https://app.example"));
    assert_eq!(seen.field("sec-websocket-protocol"), Some("chat, v2.chat"));
    assert_eq!(seen.field("sec-websocket-key").map(str::len), Some(24), "RFC 8441 §5: the key is ours");
    socket.say(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(socket.hear(), closed(1000));
    assert_eq!(socket.read(), Ok(None), "both Closes have passed: END_STREAM");
    a.await_sockets(0);
}

/// RFC 8441 §5 leaves the key out; a client that sends one expects its answer. The values are those of RFC 6455 §1.3.
#[test]
fn a_client_that_sends_a_key_gets_its_accept() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let client = Client::plain(gateway.web());
    let fields = [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let mut socket = client.open_with("/ws", &fields).ok().unwrap();
    assert_eq!(socket.fields["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    socket.echo("hello");
}

/// A text of that many letters.
fn text(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// The access log so far, once it contains that event.
fn logged(log: &std::path::Path, event: &str) -> serde_json::Value {
    eventually(&format!("a line {event}"), || {
        let lines = std::fs::read_to_string(log).unwrap_or_default();
        let mut parsed = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
        parsed.find(|line: &serde_json::Value| line["event"] == event)
    })
}

#[test]
fn over_tls_it_is_a_line_of_http_2_with_status_200() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (cert, key, trusted) = certificate();
    std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let place = folder.path().display();
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - name: web
    address: 127.0.0.1:0
    tls: {{ certificates: [{{ cert: {place}/cert.pem, key: {place}/key.pem }}] }}
access_log: {{ path: {place}/access.log }}
routes: [{{ name: chat, upstream: ['{a}'] }}]"
    ));
    let client = Client::secure(gateway.web(), &trusted);
    let mut socket = client.open("/ws");
    for length in [0, 125, 126, 4 << 10, 1 << 20] {
        let text = text(length);
        socket.say(TEXT, &text);
        assert!(socket.hear() == (0x81, text), "{length} bytes came back changed");
    }
    let open = logged(&log, "open");
    assert_eq!(
        (&open["protocol"], &open["status"], &open["method"]),
        (&"HTTP/2.0".into(), &200.into(), &"GET".into())
    );
    assert_eq!(a.seen()[0].field("x-forwarded-proto"), Some("https"));
    socket.say(CLOSE, &3001_u16.to_be_bytes());
    assert_eq!(socket.end(), Some(3001));
    let close = logged(&log, "close");
    assert_eq!((&close["protocol"], &close["code"]), (&"HTTP/2.0".into(), &3001.into()));
    let answered =
        gateway.metrics().sum("moongate_http_requests_total", &[("route", "chat"), ("status", "200")]);
    assert_eq!(answered, 1.0);
}

#[test]
fn a_hundred_of_them_and_a_request_share_a_connection() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let client = Client::plain(gateway.web());
    let mut sockets: Vec<_> = (0..99).map(|n| client.open(&format!("/ws/{n}"))).collect();
    a.await_sockets(99);
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.say(TEXT, format!("number {n}").as_bytes());
    }
    assert_eq!(client.get("/page"), (http::StatusCode::OK, b"a".to_vec()));
    for (n, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.hear().1, format!("number {n}").into_bytes());
    }
    drop(sockets);
    a.await_sockets(0);
    assert_eq!(client.get("/page").0, http::StatusCode::OK, "the connection outlives its WebSockets");
}

#[test]
fn five_hundred_small_messages_come_back_in_order() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let client = Client::plain(gateway.web());
    let mut sockets = [client.open("/one"), client.open("/two")];
    for n in 0..500 {
        sockets.iter_mut().for_each(|socket| socket.say(TEXT, format!("message {n}").as_bytes()));
    }
    for n in 0..500 {
        for socket in &mut sockets {
            assert_eq!(socket.hear().1, format!("message {n}").into_bytes());
        }
    }
}

/// A backend that sends this many bytes as messages of 16 KiB with consecutive numbers.
fn pouring(total: usize) -> Origin {
    Origin::scripted("pouring", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        for n in 0..total / (16 << 10) {
            if wire.try_send(frame(BINARY, &[n as u8; 16 << 10])).is_err() {
                break;
            }
        }
        let _ = read_frame(wire);
        Next::Close
    })
}

#[test]
fn clients_that_do_not_read_block_no_other_and_lose_nothing() {
    const TOTAL: usize = 2 << 20;
    let (a, pouring) = (Origin::named("a"), pouring(TOTAL));
    let gateway = start(&format!(
        "routes: [{{ path: /pour, upstream: ['{pouring}'] }}, {{ path: /ws, upstream: ['{a}'] }}]"
    ));
    let client = Client::plain(gateway.web());
    let mut slow: Vec<_> = (0..20).map(|_| client.open("/pour")).collect();
    // Their windows are 0 by now or soon will be.
    let mut quick = client.open("/ws");
    for n in 0..200 {
        quick.echo(&format!("past them {n}"));
    }
    for socket in &mut slow {
        for n in 0..TOTAL / (16 << 10) {
            assert!(socket.hear() == (0x82, vec![n as u8; 16 << 10]), "message {n}");
        }
        quick.echo("still");
    }
}

#[test]
fn backends_that_do_not_read_block_only_their_own_client() {
    let a = Origin::named("a");
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (heard, hears) = mpsc::channel();
    let heard = Mutex::new(heard);
    let deaf = Origin::scripted("deaf", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        let _ = gate.lock().unwrap().recv();
        while let Ok((_, payload)) = read_frame(wire) {
            heard.lock().unwrap().send(payload).unwrap();
        }
        Next::Close
    });
    let gateway = start(&format!(
        "routes: [{{ path: /deaf, upstream: ['{deaf}'] }}, {{ path: /ws, upstream: ['{a}'] }}]"
    ));
    let client = Client::plain(gateway.web());
    let mut quick = client.open("/ws");
    let mut stuck: Vec<_> = (0..8).map(|_| client.open("/deaf")).collect();
    let mut sent = 0;
    // More than the kernels of both ends buffer.
    for socket in &mut stuck {
        while socket.try_say(BINARY, &[7; 32 << 10]) {
            sent += 1;
            assert!(sent < 4096, "nothing ever stops the client");
        }
        quick.echo("past them");
    }
    drop(open);
    for socket in &mut stuck {
        socket.finish_saying();
        sent += 1;
    }
    for n in 0..sent {
        let payload =
            hears.recv_timeout(crate::support::LIMIT).unwrap_or_else(|e| panic!("message {n}: {e}"));
        assert!(payload == [7; 32 << 10], "message {n}");
    }
}

#[test]
fn a_backends_close_passes_with_its_code_and_ends_the_stream() {
    let closing = Origin::scripted("closing", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        wire.try_send(frame(CLOSE, &[&4001_u16.to_be_bytes()[..], b"bye"].concat())).unwrap();
        let _ = read_frame(wire);
        Next::Close
    });
    let gateway = to(&closing);
    let client = Client::plain(gateway.web());
    let mut socket = client.open("/ws");
    assert_eq!(socket.end(), Some(4001));
    socket.say(CLOSE, &4001_u16.to_be_bytes());
    assert_eq!(socket.read(), Ok(None));
}

/// A backend that reports the Close frame that it receives.
fn left() -> (Origin, mpsc::Receiver<Vec<u8>>) {
    let (told, tells) = mpsc::channel();
    let told = Mutex::new(told);
    let origin = Origin::scripted("left", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        wire.try_send(frame(TEXT, b"ready")).unwrap();
        while let Ok((first, payload)) = read_frame(wire) {
            if first == 0x80 | CLOSE {
                let _ = wire.try_send(frame(CLOSE, &payload));
                told.lock().unwrap().send(payload).unwrap();
                break;
            }
        }
        Next::Close
    });
    (origin, tells)
}

#[test]
fn any_client_disconnect_closes_the_backend_with_1001() {
    type Leave = fn(&mut Stream);
    let ways: [(&str, Leave); 3] = [
        ("cancelled", |socket| socket.reset(Reason::CANCEL)),
        ("reset", |socket| socket.reset(Reason::INTERNAL_ERROR)),
        ("finished", Stream::finish),
    ];
    let (backend, tells) = left();
    let gateway = to(&backend);
    let client = Client::plain(gateway.web());
    for (way, leave) in ways {
        let mut socket = client.open("/ws");
        assert_eq!(socket.hear().1, b"ready");
        leave(&mut socket);
        let close = tells.recv_timeout(crate::support::LIMIT).unwrap_or_else(|e| panic!("{way}: {e}"));
        assert_eq!(close[..2], 1001_u16.to_be_bytes(), "{way}");
    }
    let mut last = client.open("/ws");
    assert_eq!(last.hear().1, b"ready");
    drop(last);
    drop(client);
    assert_eq!(tells.recv_timeout(crate::support::LIMIT).unwrap()[..2], 1001_u16.to_be_bytes(), "hung up");
}

#[test]
fn a_client_that_only_finished_still_hears_the_close() {
    let (backend, tells) = left();
    let gateway = to(&backend);
    let client = Client::plain(gateway.web());
    let mut socket = client.open("/ws");
    assert_eq!(socket.hear().1, b"ready");
    socket.finish();
    assert_eq!(tells.recv_timeout(crate::support::LIMIT).unwrap()[..2], 1001_u16.to_be_bytes());
    assert_eq!(socket.end(), Some(1001));
    assert_eq!(socket.read(), Ok(None));
}

#[test]
fn a_backend_that_dies_is_a_close_to_its_own_client_only() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway =
        start(&format!("routes: [{{ path: /a, upstream: ['{a}'] }}, {{ path: /b, upstream: ['{b}'] }}]"));
    let client = Client::plain(gateway.web());
    let (mut of_a, mut of_b) = (client.open("/a"), client.open("/b"));
    of_a.echo("hello");
    a.die();
    assert_eq!(of_a.end(), Some(1001));
    assert_eq!(of_a.read(), Ok(None));
    of_b.echo("hello");
}

#[test]
fn what_is_refused_gets_its_status_and_the_connection_goes_on() {
    let a = Origin::named("a");
    let refusing =
        Origin::fixed("HTTP/1.1 403 No\r\nX-Why: mood\r\nContent-Length: 5\r\n\r\nnever", Next::Close);
    let page = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage", Next::Close);
    let gateway = start(&format!(
        "routes:
  - {{ path: /origins, upstream: ['{a}'], websocket: {{ origins: ['https://app.example'] }} }}
  - {{ path: /one, upstream: ['{a}'], websocket: {{ max_connections_per_client: 1 }} }}
  - {{ path: /refusing, upstream: ['{refusing}'] }}
  - {{ path: /page, upstream: ['{page}'] }}
  - {{ path: /respond, upstream: ['{a}'], plugins: [{{ kind: respond, status: 200, body: hello }}] }}
  - {{ path: /ws, upstream: ['{a}'] }}"
    ));
    let client = Client::plain(gateway.web());
    let refused = |path: &str, fields: &[(&str, &str)]| {
        let Err(response) = client.open_with(path, fields) else { panic!("{path} is open") };
        response
    };
    let status = |path: &str, fields: &[(&str, &str)]| refused(path, fields).status().as_u16();
    assert_eq!(status("/nowhere", &[]), 404);
    assert_eq!(status("/origins", &[("origin", "https://evil.example")]), 403);
    let _one = client.open("/one");
    assert_eq!(status("/one", &[]), 429);
    assert_eq!(status("/page", &[]), 502, "a 200 would be an open WebSocket");
    assert_eq!(status("/respond", &[]), 501, "and so would ours");
    assert_eq!(status("/ws", &[("content-length", "5")]), 400);
    let response = refused("/refusing", &[]);
    assert_eq!((response.status().as_u16(), &response.headers()["x-why"]), (403, &"mood".parse().unwrap()));
    assert_eq!(client.body(*response), b"never");
    for version in [&[("sec-websocket-version", "8")][..], &[]] {
        let (response, _) = client.connect("websocket", "/ws", version);
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()["sec-websocket-version"], "13");
    }
    let (response, _) = client.connect("connect-udp", "/ws", &[]);
    assert_eq!(response.status(), 501);
    client.open("/ws").echo("none the worse");
}

#[test]
fn a_rule_about_the_upgrade_field_holds_for_it_too() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(&format!(
        "routes:
  - {{ headers: {{ upgrade: websocket }}, methods: [GET], upstream: ['{a}'] }}
  - {{ upstream: ['{b}'] }}"
    ));
    let client = Client::plain(gateway.web());
    assert_eq!(client.open("/ws").fields["x-backend"], "a");
    assert_eq!(client.get("/ws").1, b"b");
}

#[test]
fn plugins_with_message_and_body_phases_get_them() {
    let a = Origin::named("a");
    let gateway = start(&format!(
        "routes:
  - upstream: ['{a}']
    plugins:
      - {{ kind: body_limit, max_size: 16B }}
      - {{ kind: message_filter, deny: [secret], code: 4003 }}"
    ));
    let client = Client::plain(gateway.web());
    let mut socket = client.open("/ws");
    socket.echo("a message is no body, whatever its length");
    socket.say(TEXT, b"a secret");
    assert_eq!(socket.end(), Some(4003));
}

#[test]
fn a_client_whose_backend_is_lost_is_kept() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(&format!(
        "upstreams: {{ chat: {{ endpoints: ['{a}', '{b}'], balance: least_connections }} }}
routes: [{{ upstream: chat, websocket: {{ on_endpoint_loss: reconnect }} }}]"
    ));
    let client = Client::plain(gateway.web());
    let mut socket = client.open("/ws");
    socket.echo("before");
    let (lost, other) = if socket.fields["x-backend"] == "a" { (&a, &b) } else { (&b, &a) };
    lost.die();
    other.await_sockets(1);
    socket.echo("after");
}

#[test]
fn a_removed_route_closes_its_websockets_with_1012() {
    let a = Origin::named("a");
    let yaml = |path: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]
routes: [{{ name: '{path}', path: /{path}, upstream: ['{a}'], websocket: {{ drain_window: 200ms, on_reload: drain }} }}]"
        )
    };
    let gateway = Gateway::start_whole(&yaml("old"));
    let client = Client::plain(gateway.web());
    let mut sockets: Vec<_> = (0..10).map(|_| client.open("/old")).collect();
    gateway.reload_whole(&yaml("new")).unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.end(), Some(1012));
    }
    client.open("/new").echo("the connection goes on");
}

#[test]
fn sigterm_closes_every_websocket_and_then_the_connection() {
    let a = Origin::named("a");
    let gateway = start(&format!("routes: [{{ upstream: ['{a}'], websocket: {{ drain_window: 300ms }} }}]"));
    let client = Client::plain(gateway.web());
    let mut sockets: Vec<_> = (0..10).map(|_| client.open("/ws")).collect();
    gateway.signal("TERM");
    for socket in &mut sockets {
        assert_eq!(socket.end(), Some(1012));
        socket.say(CLOSE, &1012_u16.to_be_bytes());
        assert_eq!(socket.read(), Ok(None));
    }
    drop(sockets);
    client.ended().unwrap();
    assert!(gateway.exit_within(crate::support::LIMIT).success());
}

#[test]
fn a_connection_is_not_idle_while_a_websocket_lives() {
    let a = Origin::named("a");
    let gateway = start(&format!(
        "server: {{ keepalive_timeout: 500ms, header_timeout: 500ms, body_timeout: 500ms }}
routes: [{{ upstream: ['{a}'] }}]"
    ));
    let client = Client::plain(gateway.web());
    let mut socket = client.open("/ws");
    socket.stay_silent(Duration::from_millis(1500));
    socket.echo("still here");
    client.open("/ws").echo("nor was anybody asked to leave");
    socket.say(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(socket.end(), Some(1000));
    drop(socket);
    client.ended().unwrap();
}

#[test]
fn a_crowd_of_small_messages_for_a_backend_that_does_not_read_ends_nothing() {
    let a = Origin::named("a");
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let deaf = Origin::scripted("deaf", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        let _ = gate.lock().unwrap().recv();
        let mut count = 0_u32;
        while let Ok((_, payload)) = read_frame(wire) {
            count += 1;
            if payload == b"how many" {
                wire.try_send(frame(TEXT, count.to_string().as_bytes())).unwrap();
            }
        }
        Next::Close
    });
    let gateway = start(&format!(
        "routes: [{{ path: /deaf, upstream: ['{deaf}'] }}, {{ path: /ws, upstream: ['{a}'] }}]"
    ));
    let client = Client::plain(gateway.web());
    let mut quick = client.open("/ws");
    let mut stuck = client.open("/deaf");
    let mut sent = 1;
    while stuck.try_say(TEXT, b"tiny") {
        sent += 1;
    }
    quick.echo("past it");
    drop(open);
    stuck.finish_saying();
    stuck.say(TEXT, b"how many");
    assert_eq!(stuck.hear().1, (sent + 1).to_string().into_bytes());
}

#[test]
fn cookies_in_pieces_reach_the_backend_as_one_field() {
    let a = Origin::named("a");
    let gateway = to(&a);
    let client = Client::plain(gateway.web());
    client.open_with("/ws", &[("cookie", "a=1"), ("cookie", "b=2")]).ok().unwrap().echo("hello");
    assert_eq!(a.seen()[0].fields("cookie"), ["a=1; b=2"]);
}

/// Browsers end the WebSockets of a connection at its GOAWAY.
#[test]
fn a_connection_of_a_removed_thread_opens_further_websockets_until_its_last_one_ends() {
    let a = Origin::named("a");
    let with = |threads: usize| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}\nserver: {{ threads: {threads} }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]\nroutes: [{{ upstream: ['{a}'] }}]"
        )
    };
    let gateway = Gateway::start_whole(&with(4));
    let fields = [(":protocol", "websocket"), ("sec-websocket-version", "13")];
    let mut connections: Vec<_> = (0..16).map(|_| Frames::connect(gateway.web())).collect();
    let open = |frames: &mut Frames, stream: u32| {
        frames.head(stream, &request("CONNECT", "/", &fields), false);
        // Anything else on the stream would be a refusal.
        loop {
            let frame = frames.next().unwrap();
            match frame.kind {
                HEADERS if frame.stream == stream => return,
                RST_STREAM | GOAWAY => panic!("{} on {}", frame.kind, frame.stream),
                _ => {}
            }
        }
    };
    connections.iter_mut().for_each(|frames| open(frames, 1));
    gateway.reload_whole(&with(1)).unwrap();
    gateway.log().wait(0, &["workers retired"]);
    for stream in [3, 5] {
        connections.iter_mut().for_each(|frames| open(frames, stream));
    }
    drop(connections);
    a.await_sockets(0);
}

#[test]
fn the_websockets_of_a_connection_are_asked_to_reconnect_together_and_before_its_goaway() {
    let a = Origin::named("a");
    let route = |path: &str, window: &str| {
        format!("{{ path: {path}, upstream: ['{a}'], websocket: {{ drain_window: {window} }} }}")
    };
    let gateway = start(&format!("routes: [{}, {}]", route("/a", "1s"), route("/b", "20s")));
    let mut connections: Vec<_> = (0..3).map(|_| Frames::connect(gateway.web())).collect();
    let fields = [(":protocol", "websocket"), ("sec-websocket-version", "13")];
    for frames in &mut connections {
        for stream in [1, 3, 5] {
            frames.head(stream, &request("CONNECT", if stream == 3 { "/b" } else { "/a" }, &fields), false);
            frames.next_on(HEADERS, stream);
        }
    }
    gateway.signal("TERM");
    let rows: Vec<_> = connections
        .iter_mut()
        .map(|frames| {
            let mut closed = Vec::new();
            loop {
                let frame = frames.next().unwrap();
                match frame.kind {
                    DATA if frame.payload.first() == Some(&(0x80 | CLOSE)) => {
                        assert_eq!(frame.payload[2..4], 1012_u16.to_be_bytes());
                        closed.push(frame.stream);
                        if closed.len() == 1 {
                            frames.head(7, &request("CONNECT", "/a", &fields), false);
                        }
                        let close = crate::support::ws::masked(CLOSE, &1012_u16.to_be_bytes());
                        frames.frame(DATA, 0, frame.stream, &close);
                    }
                    RST_STREAM if frame.stream == 7 => {
                        assert_eq!(frame.number(0), u32::from(Reason::REFUSED_STREAM));
                        closed.push(7);
                    }
                    GOAWAY => break,
                    _ => {}
                }
            }
            closed.sort_unstable();
            closed
        })
        .collect();
    assert_eq!(
        rows,
        vec![vec![1, 3, 5, 7]; 3],
        "each has its Close frame before GOAWAY, and a new one is refused"
    );
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
}
