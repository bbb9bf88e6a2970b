//! `routes.websocket`: limits of messages, connections and handshakes.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::ws::{accepted, frame, masked, open_raw, read_frame};
use crate::support::{Next, Origin, Socket};

pub(super) const CASES: &[Case] = &[
    case(&["routes.websocket"], |gateway| check_message_limit(gateway, ["", "max_message: 100"], 1009)),
    case(&["routes.websocket.max_frame"], |gateway| {
        check_message_limit(gateway, ["max_frame: 4KiB", "max_frame: 100"], 1009);
    }),
    case(&["routes.websocket.max_message"], |gateway| {
        check_message_limit(gateway, ["max_message: 4KiB", "max_message: 100"], 1009);
    }),
    case(&["routes.websocket.messages_per_second"], |gateway| {
        check_message_limit(
            gateway,
            ["on_exceed: close, messages_per_second: 100", "on_exceed: close, messages_per_second: 1"],
            1008,
        );
    }),
    case(&["routes.websocket.bytes_per_second"], |gateway| {
        check_message_limit(
            gateway,
            ["on_exceed: close, bytes_per_second: 1MiB", "on_exceed: close, bytes_per_second: 250"],
            1008,
        );
    }),
    case(&["routes.websocket.on_exceed"], |gateway| {
        check_message_limit(
            gateway,
            ["messages_per_second: 1, on_exceed: pause", "messages_per_second: 1, on_exceed: close"],
            1008,
        );
    }),
    case(&["routes.websocket.max_connections"], max_connections),
    case(
        &["routes.websocket.max_connections_per_client", "routes.websocket.max_connections_per_client.limit"],
        max_connections_per_client,
    ),
    case(&["routes.websocket.max_connections_per_client.key"], client_key),
    case(&["routes.websocket.handshake_rate"], handshake_rate),
    case(&["routes.websocket.origins"], origins),
    case(&["routes.websocket.invalid_frames"], invalid_frames),
];

pub(super) fn to(origin: &Origin, websocket: &str) -> File {
    File::route(format!("name: case, path: /case, upstream: ['{origin}'], websocket: {{ {websocket} }}"))
}

/// Two messages of 200 bytes pass under the first setting, and close the WebSocket under the second.
fn check_message_limit(gateway: &LoadedGateway, settings: [&str; 2], code: u16) {
    let (origin, message) = (Origin::named("a"), "x".repeat(200));
    let mut sockets = settings.map(|settings| {
        gateway.reload(&to(&origin, settings));
        gateway.open("/case").unwrap()
    });
    for socket in &mut sockets {
        socket.say(&message);
        socket.say(&message);
    }
    let [first, second] = &mut sockets;
    for _ in 0..2 {
        assert_eq!(first.hear(), message.as_bytes());
    }
    assert_eq!(second.end(), Some(code));
}

fn max_connections(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let mut open: Vec<Socket> = Vec::new();
    for (most, refusal) in [(0, None), (1, Some(503)), (2, None), (0, None)] {
        gateway.reload(&to(&origin, &format!("max_connections: {most}")));
        match gateway.open("/case") {
            Ok(socket) => open.push(socket),
            Err(status) => assert_eq!(Some(status), refusal, "{most}"),
        }
        assert_eq!(open.len(), if most == 0 { open.len() } else { most }, "{most}");
    }
}

fn max_connections_per_client(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (limit, refusal) in [("0", None), ("1", Some(429)), ("{ limit: 2, key: client_ip }", None)] {
        gateway.reload(&to(&origin, &format!("max_connections_per_client: {limit}")));
        let _first = gateway.open("/case").unwrap();
        assert_eq!(gateway.open("/case").err(), refusal, "{limit}");
        // The next setting begins without WebSockets.
        drop(_first);
        await_closed(gateway);
    }
}

fn await_closed(gateway: &LoadedGateway) {
    crate::support::eventually("all WebSockets of the route are closed", || {
        let open = gateway.metric("moongate_websocket_connections_active", &[("route", "case")]);
        (open == 0.0).then_some(())
    });
}

fn client_key(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (key, refusal) in [("client_ip", Some(429)), ("header:X-User", None)] {
        gateway.reload(&to(&origin, &format!("max_connections_per_client: {{ limit: 1, key: '{key}' }}")));
        let sockets = ["1", "2"].map(|user| Socket::open_with(gateway.web(), "/case", &[("X-User", user)]));
        assert!(sockets[0].is_ok());
        assert_eq!(sockets[1].as_ref().err().copied(), refusal, "{key}");
        drop(sockets);
        await_closed(gateway);
    }
}

fn handshake_rate(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (rate, refusal) in [("100/s", None), ("1/h", Some(503)), ("0", None)] {
        gateway.reload(&to(&origin, &format!("handshake_rate: {rate}")));
        let _first = gateway.open("/case").unwrap();
        assert_eq!(gateway.open("/case").err(), refusal, "{rate}");
    }
}

fn origins(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (origins, refusal) in [("https://a.example", None), ("https://b.example", Some(403))] {
        gateway.reload(&to(&origin, &format!("origins: ['{origins}']")));
        let socket = Socket::open_with(gateway.web(), "/case", &[("Origin", "https://a.example")]);
        assert_eq!(socket.err(), refusal, "{origins}");
    }
}

fn invalid_frames(gateway: &LoadedGateway) {
    const RESERVED: u8 = 3;
    // It sends the first byte of a reserved frame that it received.
    let origin = Origin::scripted("a", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        if let Ok((first, _)) = read_frame(wire)
            && first & 0x0f == RESERVED
        {
            wire.try_send(frame(1, &[first])).unwrap();
        }
        Next::Close
    });
    for (setting, expected) in
        [("close", (0x88, 1002_u16.to_be_bytes().to_vec())), ("pass", (0x81, vec![0x83]))]
    {
        gateway.reload(&to(&origin, &format!("invalid_frames: {setting}")));
        let mut wire = open_raw(gateway.web(), "/case");
        wire.send(masked(RESERVED, b"x"));
        let (first, payload) = read_frame(&mut wire).unwrap();
        assert_eq!((first, payload[..expected.1.len()].to_vec()), expected, "{setting}");
    }
}
