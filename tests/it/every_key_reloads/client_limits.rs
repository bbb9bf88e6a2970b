//! The limits of `server` for clients that are slow or idle.

use super::loaded_gateway::{File, LoadedGateway};
use super::shared_checks::{begin_upload, check_limit};
use super::{Case, case};
use crate::support::{Next, Origin, Wire, eventually, origin::answer};

pub(super) const CASES: &[Case] = &[
    case(&["server.header_timeout"], header_timeout),
    case(&["server.keepalive_timeout"], keepalive_timeout),
    case(&["server.body_timeout"], body_timeout),
    case(&["server.send_timeout"], send_timeout),
    case(&["server.body_min_rate"], |gateway| body_rate(gateway, "0", FAST)),
    case(&["server.body_min_rate.rate"], |gateway| body_rate(gateway, "{ rate: 0, grace: 0s }", FAST)),
    case(&["server.body_min_rate.grace"], |gateway| body_rate(gateway, PATIENT, FAST)),
    case(&["server.send_min_rate"], |gateway| send_rate(gateway, "0", FAST)),
    case(&["server.send_min_rate.rate"], |gateway| send_rate(gateway, "{ rate: 0, grace: 0s }", FAST)),
    case(&["server.send_min_rate.grace"], |gateway| send_rate(gateway, PATIENT, FAST)),
];

const FAST: &str = "{ rate: 100MiB, grace: 0s }";
const PATIENT: &str = "{ rate: 100MiB, grace: 1h }";

fn to(origin: &Origin, settings: &str) -> File {
    File::server(settings).and_route(format!("name: case, path: /case, upstream: ['{origin}']"))
}

fn is_408(wire: &mut Wire) {
    let response = wire.response();
    assert_eq!(response.status, 408, "{}", response.head);
}

fn header_timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let begin = |gateway: &LoadedGateway| {
        let mut wire = gateway.gateway().wire();
        wire.send("GET /case HTTP/1.1\r\nHost: localhost\r\n");
        wire.await_read();
        wire
    };
    let complete = |wire: &mut Wire| {
        wire.send("\r\n");
        assert_eq!(wire.response().status, 200);
    };
    let files = ["header_timeout: 1h", "header_timeout: 300ms"].map(|setting| to(&origin, setting));
    check_limit(gateway, files.each_ref(), begin, is_408, complete);
}

fn keepalive_timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let closes = || {
        let mut wire = gateway.gateway().wire();
        wire.send("GET /case HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wire.response().field("connection") == Some("close")
    };
    for (time, expected) in [("1h", false), ("0s", true), ("75s", false)] {
        gateway.reload(&to(&origin, &format!("keepalive_timeout: {time}")));
        assert_eq!(closes(), expected, "{time}");
    }
}

fn complete_upload(wire: &mut Wire) {
    wire.send("y");
    assert_eq!(wire.response().status, 200);
}

fn body_timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let files = ["body_timeout: 1h", "body_timeout: 300ms"]
        .map(|setting| to(&origin, &format!("{setting}, body_min_rate: 0")));
    check_limit(gateway, files.each_ref(), begin_upload, is_408, complete_upload);
}

fn body_rate(gateway: &LoadedGateway, before: &str, after: &str) {
    let origin = Origin::named("a");
    let files = [before, after].map(|rate| to(&origin, &format!("body_timeout: 1h, body_min_rate: {rate}")));
    check_limit(gateway, files.each_ref(), begin_upload, is_408, complete_upload);
}

/// More than the buffers of both connections hold.
const LARGE: usize = 24 << 20;

/// A client that reads nothing of its response is closed after the second setting, not after the first.
fn check_unread_response(gateway: &LoadedGateway, settings: [String; 2]) {
    let body = vec![7; LARGE];
    let origin = Origin::fixed(answer(200, "", &body), Next::Keep);
    let begin = |gateway: &LoadedGateway| {
        let mut wire = gateway.gateway().wire();
        wire.send("GET /case HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // The response has begun.
        wire.fill().unwrap();
        wire
    };
    let labels = [("route", "case"), ("reason", "send_timeout")];
    let closed = || gateway.metric("moongate_http_client_aborts_total", &labels);
    let before = closed();
    let is_ended =
        |_: &mut Wire| eventually("the client is closed", || (closed() == before + 1.0).then_some(()));
    let complete = |wire: &mut Wire| assert_eq!(wire.response().body.len(), LARGE);
    let files = settings.map(|settings| to(&origin, &settings));
    check_limit(gateway, files.each_ref(), begin, is_ended, complete);
}

fn send_timeout(gateway: &LoadedGateway) {
    check_unread_response(
        gateway,
        ["1h", "300ms"].map(|time| format!("send_timeout: {time}, send_min_rate: 0")),
    );
}

fn send_rate(gateway: &LoadedGateway, before: &str, after: &str) {
    check_unread_response(
        gateway,
        [before, after].map(|rate| format!("send_timeout: 1h, send_min_rate: {rate}")),
    );
}
