//! Metrics: what clients and backends invent makes no series.

use crate::support::raw::{ask, get};
use crate::support::{Gateway, Next, Origin, eventually, ws};

/// The number of series of each family, sorted.
fn series(gateway: &Gateway) -> Vec<(String, usize)> {
    let text = get(gateway.admin(), "/metrics").text();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        *counts.entry(line[..line.find(['{', ' ']).unwrap()].to_owned()).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// A backend that responds with the status of the path, and agrees to any subprotocol.
fn origin() -> Origin {
    Origin::scripted("inventor", |seen, wire| {
        let sent = match seen.field("sec-websocket-protocol") {
            Some(protocol) => {
                let accepted = ws::accepted(seen, &format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
                let closed = |wire: &mut _| ws::read_frame(wire).map(|(_, code)| ws::frame(8, &code));
                wire.try_send(accepted).and_then(|()| closed(wire)).and_then(|close| wire.try_send(close))
            }
            None => {
                let status = seen.target().trim_start_matches('/');
                wire.try_send(format!("HTTP/1.1 {status} Invented\r\nContent-Length: 0\r\n\r\n"))
            }
        };
        if sent.is_ok() && seen.field("upgrade").is_none() { Next::Keep } else { Next::Close }
    })
}

/// Sends requests and WebSockets in which these numbers are method, host, path, subprotocol, status and close code.
fn invent(gateway: &Gateway, numbers: std::ops::Range<u16>) {
    let closed = |gateway: &Gateway| gateway.metrics().sum("moongate_websocket_closed_total", &[]);
    let expected = closed(gateway) + numbers.len() as f64;
    for number in numbers {
        let status = 512 + number;
        let head =
            format!("M{number} /{status} HTTP/1.1\r\nHost: h{number}.example\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(gateway.web(), head).status, status);
        let unrouted = format!("GET /none/{number} HTTP/1.1\r\nHost: unknown\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(gateway.web(), unrouted).status, 404);
        let mut wire = gateway.wire();
        wire.send(ws::handshake(&format!("/{number}"), &format!("Sec-WebSocket-Protocol: p{number}\r\n")));
        assert_eq!(wire.response().status, 101);
        wire.send(ws::masked(8, &(3000 + number).to_be_bytes()));
        assert_eq!(ws::read_frame(&mut wire).unwrap().1, (3000 + number).to_be_bytes());
    }
    eventually("all WebSockets are closed", || (closed(gateway) == expected).then_some(()));
}

#[test]
fn what_clients_and_backends_invent_makes_a_bounded_number_of_series() {
    let origin = origin();
    let gateway = Gateway::start(&format!(
        "routes: [{{ name: all, host: ['*.example', localhost], upstream: [{origin}] }}]\n"
    ));
    invent(&gateway, 0..40);
    let before = series(&gateway);
    invent(&gateway, 40..80);
    assert_eq!(series(&gateway), before);
    let metrics = gateway.metrics();
    for (name, label, count) in [
        // 16 statuses, 101 and `other`.
        ("moongate_http_requests_total", "route=\"all\"", 18),
        // 32 codes and `other`.
        ("moongate_websocket_closed_total", "route=\"all\"", 33),
    ] {
        let shown = metrics.values(name).into_iter().filter(|(series, _)| series.contains(label));
        assert_eq!(shown.count(), count, "{name}");
    }
}
