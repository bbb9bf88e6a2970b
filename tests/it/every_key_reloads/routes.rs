//! `routes`, except conditions and WebSockets.

use super::loaded_gateway::{File, LoadedGateway};
use super::shared_checks::check_limit;
use super::{Case, case};
use crate::support::{Gate, LIMIT, Next, Origin, Wire, eventually, upgraded};
use std::sync::Arc;

pub(super) const CASES: &[Case] = &[
    case(&["routes.timeout"], timeout),
    case(&["routes.stream_idle_timeout"], stream_idle_timeout),
    case(&["routes.on_client_close"], on_client_close),
    case(&["routes.access_log"], access_log),
    case(&["routes.upgrades"], upgrades),
    case(&["routes.plugins"], plugins),
];

fn to(origin: &Origin, settings: &str) -> File {
    File::route(format!("name: case, path: /case, upstream: ['{origin}'], {settings}"))
}

fn begin(gateway: &LoadedGateway) -> Wire {
    let mut wire = gateway.gateway().wire();
    wire.send("GET /case HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire
}

fn timeout(gateway: &LoadedGateway) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::scripted("a", move |_, wire| {
        held.pass_within(LIMIT);
        wire.try_send(crate::support::origin::answer(200, "", b"")).map_or(Next::Close, |()| Next::Keep)
    });
    let begin = |gateway: &LoadedGateway| {
        let (wire, count) = (begin(gateway), origin.count());
        origin.await_seen(count.max(1));
        wire
    };
    let is_ended = |wire: &mut Wire| assert_eq!(wire.response().status, 504);
    let complete = |wire: &mut Wire| {
        gate.open();
        assert_eq!(wire.response().status, 200);
    };
    let files = ["timeout: 1h", "timeout: 300ms"].map(|setting| to(&origin, setting));
    check_limit(gateway, files.each_ref(), begin, is_ended, complete);
}

fn stream_idle_timeout(gateway: &LoadedGateway) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::scripted("a", move |_, wire| {
        wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx").unwrap();
        held.pass_within(LIMIT);
        wire.try_send("y").map_or(Next::Close, |()| Next::Keep)
    });
    let begin = |gateway: &LoadedGateway| {
        let mut wire = begin(gateway);
        wire.head().unwrap().unwrap();
        assert_eq!(wire.exactly(1).unwrap(), b"x");
        wire
    };
    let is_ended = |wire: &mut Wire| assert!(wire.ended());
    let complete = |wire: &mut Wire| {
        gate.open();
        assert_eq!(wire.exactly(1).unwrap(), b"y");
    };
    let files = ["1h", "300ms"].map(|time| to(&origin, &format!("stream_idle_timeout: {time}")));
    check_limit(gateway, files.each_ref(), begin, is_ended, complete);
}

fn on_client_close(gateway: &LoadedGateway) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let origin = Origin::scripted("a", move |seen, wire| {
        if seen.target() == "/case/finish" {
            held.pass_within(LIMIT);
            wire.try_send(crate::support::origin::answer(200, "", b"late")).unwrap();
        } else {
            // Until the gateway cancels the request.
            let _ = wire.fill();
        }
        Next::Close
    });
    let labels = [("route", "case"), ("reason", "client_gone")];
    let cancelled = || gateway.metric("moongate_http_client_aborts_total", &labels);
    for (number, setting) in ["cancel", "finish"].into_iter().enumerate() {
        gateway.reload(&to(&origin, &format!("on_client_close: {setting}")));
        let mut wire = gateway.gateway().wire();
        wire.send(format!("GET /case/{setting} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        origin.await_seen(number + 1);
        wire.half_close();
        if setting == "cancel" {
            eventually("the request is cancelled", || (cancelled() == 1.0).then_some(()));
        } else {
            gate.open();
            assert_eq!(wire.response().text(), "late");
            assert_eq!(cancelled(), 1.0);
        }
    }
}

fn access_log(gateway: &LoadedGateway) {
    let (origin, file) = (Origin::named("a"), gateway.path("access.log"));
    let log = format!("access_log: {{ path: '{}' }}", file.display());
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    for (number, written) in [true, false, true].into_iter().enumerate() {
        gateway.reload(&to(&origin, &format!("access_log: {written}")).and_top(&log));
        assert_eq!(gateway.get(&format!("/case/{number}")).status, 200);
        if written {
            eventually("the line", || text().contains(&format!("/case/{number}\"")).then_some(()));
        }
    }
    // Lines keep their order, so the missing one does not follow.
    assert!(!text().contains("/case/1\""));
}

fn upgrades(gateway: &LoadedGateway) {
    let origin = upgraded::echoing("a");
    let mut open: Option<Wire> = None;
    for (listed, status) in [("", 200), ("tcp", 101), ("'SPDY/3.1'", 200)] {
        gateway.reload(&to(&origin, &format!("upgrades: [{listed}]")));
        let mut wire = gateway.gateway().wire();
        wire.send(upgraded::request("/case", "tcp"));
        assert_eq!(wire.response().status, status, "{listed}");
        if let Some(earlier) = &mut open {
            earlier.send("still here");
            assert_eq!(earlier.exactly(10).unwrap(), b"still here");
        }
        open = open.or((status == 101).then_some(wire));
    }
}

fn plugins(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (plugins, expected) in
        [("[]", None), ("[{ kind: headers, request: { set: { X-A: '1' } } }]", Some("1"))]
    {
        gateway.reload(&to(&origin, &format!("plugins: {plugins}")));
        assert_eq!(gateway.get("/case").status, 200);
        assert_eq!(origin.seen().pop().unwrap().field("x-a"), expected, "{plugins}");
    }
}
