//! `routes.websocket`: timers and drains.

use super::loaded_gateway::{File, LoadedGateway};
use super::websocket_limits::to;
use super::{Case, case};
use crate::support::ws::{accepted, frame, handshake, open_raw, read_frame};
use crate::support::{LIMIT, Next, Origin, Socket, Wire, eventually};
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case(&["routes.websocket.idle_timeout"], |gateway| {
        check_close(gateway, ["1h", "300ms"].map(|t| format!("idle_timeout: {t}")), 1001);
    }),
    case(&["routes.websocket.max_age"], |gateway| {
        check_close(gateway, ["1h", "300ms"].map(|t| format!("max_age: {t}, drain_window: 0s")), 1012);
    }),
    case(&["routes.websocket.jitter"], jitter),
    case(&["routes.websocket.ping_interval"], ping_interval),
    case(&["routes.websocket.ping_timeout"], ping_timeout),
    case(&["routes.websocket.handshake_timeout"], handshake_timeout),
    case(&["routes.websocket.close_timeout"], close_timeout),
    case(&["routes.websocket.write_timeout"], write_timeout),
    case(&["routes.websocket.drain_window"], drain_window),
    case(&["routes.websocket.on_unhealthy"], on_unhealthy),
    case(&["routes.websocket.on_reload"], on_reload),
];

/// A WebSocket is closed after the second setting; one that began under the first stays open.
fn check_close(gateway: &LoadedGateway, settings: [String; 2], code: u16) {
    let origin = Origin::named("a");
    let [mut first, mut second] = settings.map(|settings| {
        gateway.reload(&to(&origin, &settings));
        gateway.open("/case").unwrap()
    });
    assert_eq!(second.end(), Some(code));
    first.echo("still open");
}

fn jitter(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let closed = || gateway.metric("moongate_websocket_closed_total", &[("route", "case"), ("code", "1012")]);
    let before = closed();
    let [mut sure, random] = ["0s", "60s"].map(|jitter| {
        gateway.reload(&to(&origin, &format!("max_age: 60s, jitter: {jitter}")));
        (0..60).map(|_| gateway.open("/case").unwrap()).collect::<Vec<_>>()
    });
    // The first of sixty random times in a minute is at about one second.
    eventually("one of many is closed early", || (closed() > before).then_some(()));
    sure.iter_mut().for_each(|socket| socket.echo("still open"));
    drop(random);
}

fn ping_interval(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let [first, mut second] = ["1h", "100ms"].map(|interval| {
        gateway.reload(&to(&origin, &format!("ping_interval: {interval}, ping_timeout: 1h")));
        open_raw(gateway.web(), "/case")
    });
    assert_eq!(read_frame(&mut second).unwrap().0, 0x89);
    is_silent(first);
}

/// Nothing was received so far.
fn is_silent(mut wire: Wire) {
    wire.patience(Duration::from_millis(1));
    wire.fill().unwrap_err();
}

fn ping_timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let [mut first, mut second] = ["1h", "200ms"].map(|timeout| {
        gateway.reload(&to(&origin, &format!("ping_interval: 100ms, ping_timeout: {timeout}")));
        open_raw(gateway.web(), "/case")
    });
    // Neither sends a pong.
    second.rest();
    read_frame(&mut first).unwrap();
    is_silent(first);
}

fn handshake_timeout(gateway: &LoadedGateway) {
    let mute = Origin::scripted("mute", |_, wire| {
        let _ = wire.fill();
        Next::Close
    });
    let [first, mut second] = ["1h", "200ms"].map(|timeout| {
        gateway.reload(&to(&mute, &format!("handshake_timeout: {timeout}")));
        let mut wire = gateway.gateway().wire();
        wire.send(handshake("/case", ""));
        wire
    });
    assert_eq!(second.response().status, 504);
    is_silent(first);
}

fn close_timeout(gateway: &LoadedGateway) {
    let origin = Origin::scripted("a", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        wire.try_send(frame(8, &1000_u16.to_be_bytes())).unwrap();
        wire.patience(LIMIT);
        let _ = wire.try_rest();
        Next::Close
    });
    let [first, mut second] = ["1h", "200ms"].map(|timeout| {
        gateway.reload(&to(&origin, &format!("close_timeout: {timeout}")));
        let mut wire = open_raw(gateway.web(), "/case");
        assert_eq!(read_frame(&mut wire).unwrap().0, 0x88);
        wire
    });
    // Neither sends a Close.
    assert!(second.ended());
    is_silent(first);
}

fn write_timeout(gateway: &LoadedGateway) {
    let flood = Origin::scripted("flood", |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        let message = frame(2, &[7; 64 << 10]);
        while wire.try_send(&message).is_ok() {}
        Next::Close
    });
    let closed = || gateway.metric("moongate_websocket_closed_total", &[("route", "case")]);
    let before = closed();
    let sockets = ["1h", "300ms"].map(|timeout| {
        gateway.reload(&to(
            &flood,
            &format!("write_timeout: {timeout}, close_timeout: 200ms, ping_interval: 0s"),
        ));
        open_raw(gateway.web(), "/case")
    });
    // Neither reads.
    eventually("the second one is closed", || (closed() == before + 1.0).then_some(()));
    let [mut first, _second] = sockets;
    for _ in 0..200 {
        assert_eq!(read_frame(&mut first).unwrap().0, 0x82);
    }
}

/// An upstream of two, the first of which may drain.
fn pair(a: &Origin, b: &Origin, upstream: &str, websocket: &str) -> File {
    File::upstream(
        &[a, b],
        format!("balance: least_connections, {upstream}"),
        format!("websocket: {{ {websocket} }}"),
    )
}

fn open_pair(gateway: &LoadedGateway) -> [Socket; 2] {
    let mut sockets = [(); 2].map(|()| gateway.open("/case").unwrap());
    sockets.sort_by(|one, other| one.backend.cmp(&other.backend));
    assert_eq!(sockets.each_ref().map(|socket| &*socket.backend), ["a", "b"]);
    sockets
}

fn drain_window(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let removed = |window: &str| {
        File::upstream(
            &[&b],
            "balance: least_connections",
            format!("websocket: {{ on_reload: drain, drain_window: {window} }}"),
        )
    };
    gateway.reload(&pair(&a, &b, "", "on_reload: drain, drain_window: 10h"));
    let [mut on_a, mut on_b] = open_pair(gateway);
    gateway.reload(&removed("10h"));
    on_a.echo("still open");
    gateway.reload(&removed("0s"));
    assert_eq!(on_a.end(), Some(1012));
    on_b.echo("still open");
}

fn on_unhealthy(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let check = "health_check: { kind: http, path: /health, interval: 20ms, unhealthy_after: 1 }";
    let with = |policy: &str| pair(&a, &b, check, &format!("drain_window: 0s, on_unhealthy: {policy}"));
    gateway.reload(&with("keep"));
    for origin in [&a, &b] {
        gateway.gateway().await_health("case", origin.address(), "healthy");
    }
    let [mut on_a, mut on_b] = open_pair(gateway);
    a.sicken();
    gateway.gateway().await_health("case", a.address(), "unhealthy");
    on_a.echo("kept");
    gateway.reload(&with("drain"));
    assert_eq!(on_a.end(), Some(1012));
    on_b.echo("still open");
}

fn on_reload(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (policy, drains) in [("keep", false), ("drain", true)] {
        let with = |more: &str| to(&origin, &format!("drain_window: 0s, on_reload: {policy}{more}"));
        gateway.reload(&with(""));
        let mut socket = gateway.open("/case").unwrap();
        gateway.reload(&with(", max_message: 1MiB"));
        if drains {
            assert_eq!(socket.end(), Some(1012));
        } else {
            socket.echo("kept");
        }
    }
}
