//! Raw relays after the 101: counts, limits, ends, drains, and the move to another process.

use crate::moved_websockets::upgraded;
use crate::support::access_log::AccessLog;
use crate::support::certs::Authority;
use crate::support::raw::{ask, lossy};
use crate::support::secured::quoted;
use crate::support::upgraded::{Client, agree, echoing, request, switching};
use crate::support::{Gateway, Next, Origin, Response, Socket, Wire, eventually, get, moongate};
use serde_json::Value;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Long enough for a mistake to show.
const QUIET: Duration = Duration::from_millis(700);

fn route(origin: &Origin, websocket: &str) -> String {
    format!(
        "routes: [{{ name: raw, upstream: [{origin}], upgrades: [tcp, 'SPDY/3.1'], websocket: {{ {websocket} }} }}]\n"
    )
}

fn open(gateway: &Gateway) -> Wire {
    let mut wire = gateway.wire();
    wire.send(request("/attach?stream=1", "tcp"));
    let response = wire.response();
    assert_eq!(response.status, 101, "{}", response.head);
    wire
}

#[track_caller]
fn echoes(wire: &mut Wire, bytes: &[u8]) {
    wire.send(bytes);
    assert_eq!(wire.exactly(bytes.len()).unwrap(), bytes);
}

/// The gateway has ended the relay in order, without another byte but the backend's last ones.
#[track_caller]
fn ended(wire: &mut Wire) {
    let rest = wire.rest();
    assert!(rest.is_empty(), "{}", lossy(&rest));
}

/// It is open, and stays so for a while.
fn stays(wire: &mut Wire) {
    wire.patience(QUIET);
    let read = wire.fill().map_err(|error| error.kind());
    assert!(matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{read:?}");
    wire.patience(crate::support::LIMIT);
    echoes(wire, b"still here");
}

fn closed(gateway: &Gateway, by: &str, reason: &str, count: usize) {
    let labels = [("route", "raw"), ("protocol", "tcp"), ("by", by), ("reason", reason)];
    eventually(&format!("{count} ended by {by}: {reason}"), || {
        (gateway.metrics().sum("moongate_upgraded_closed_total", &labels) == count as f64).then_some(())
    });
}

fn order(gateway: &Gateway, target: &str) -> Response {
    ask(gateway.admin(), format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

#[test]
fn a_relay_counts_as_one_everywhere() {
    let (origin, log) = (echoing("a"), AccessLog::new());
    let gateway = Gateway::start(&format!("{}{}", log.yaml(), route(&origin, "")));
    let mut wire = gateway.wire();
    wire.send(request("/attach?stream=1", "TCP").replace("\r\n\r\n", "\r\nUser-Agent: docker\r\n\r\nearly"));
    assert_eq!(wire.response().status, 101);
    assert_eq!(wire.exactly(5).unwrap(), b"early");
    echoes(&mut wire, b"1234567");
    let mut websocket = gateway.wire();
    websocket.send(request("/ws", "SPDY/3.1"));
    assert_eq!(websocket.response().status, 101);

    // The list, the status and the metrics, in the spelling of the configuration.
    let row = |gateway: &Gateway| get(gateway.admin(), "/api/v1/sockets?filter=protocol:tcp").json();
    let listed = eventually("the bytes are listed", || {
        let list = row(&gateway);
        (list["rows"][0]["bytes"]["to_client"] == 12).then_some(list)
    });
    let shown = &listed["rows"][0];
    assert_eq!((&listed["total"], &listed["matched"]), (&2.into(), &1.into()));
    for (name, value) in [
        ("protocol", Value::from("tcp")),
        ("route", "raw".into()),
        ("path", "/attach?stream=1".into()),
        ("subprotocol", Value::Null),
        ("bytes", serde_json::json!({ "to_backend": 12, "to_client": 12 })),
        ("messages", serde_json::json!({ "to_backend": 0, "to_client": 0 })),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let status = gateway.status();
    assert_eq!((&status["upgraded"], &status["websockets"]), (&2.into(), &0.into()));
    assert_eq!(gateway.metrics().sum("moongate_upstream_connections_active", &[]), 2.0);
    let tcp = [("route", "raw"), ("protocol", "tcp")];
    let (metrics, endpoint) = (gateway.metrics(), origin.address().to_string());
    let place = [tcp[0], tcp[1], ("upstream", "raw"), ("endpoint", &endpoint)];
    assert_eq!(metrics.sum("moongate_upgraded_connections_active", &place), 1.0);
    assert_eq!(metrics.sum("moongate_upgraded_opened_total", &place), 1.0);
    assert_eq!(metrics.sum("moongate_upgraded_bytes_total", &tcp), 24.0);
    assert_eq!(metrics.sum("moongate_websocket_opened_total", &[]), 0.0);
    assert_eq!(metrics.sum("moongate_http_requests_total", &[("status", "101")]), 2.0);
    let table = moongate(&["sockets", "--admin", &gateway.admin().to_string(), "protocol:tcp"]);
    assert!(lossy(&table.stdout).contains(" tcp "), "{}", lossy(&table.stdout));

    wire.half_close();
    assert_eq!(wire.rest(), b"end");
    closed(&gateway, "client", "eof", 1);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("moongate_upgraded_connections_active", &tcp), 0.0);
    assert_eq!(metrics.sum("moongate_upgraded_lifetime_seconds_count", &[("route", "raw")]), 1.0);

    // The log has a line at the opening, and one at the end.
    let of = |event: &str| log.wait(event, |line| line["event"] == event && line["upgrade"] == "tcp");
    let (begin, end) = (of("open"), of("close"));
    for line in [&begin, &end] {
        assert_eq!(
            (&line["status"], &line["method"], &line["user_agent"]),
            (&101.into(), &"POST".into(), &"docker".into())
        );
    }
    for (name, value) in [
        ("reason", Value::from("eof")),
        ("by", "client".into()),
        ("bytes_to_backend", 12.into()),
        ("bytes_to_client", 15.into()),
        ("code", Value::Null),
        ("messages_to_backend", Value::Null),
        ("messages_to_client", Value::Null),
    ] {
        assert_eq!(end[name], value, "{name}");
    }
    assert!(end["lifetime_ms"].is_number());
}

#[test]
fn an_operator_closes_a_relay_and_cannot_tap_it() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let origin = echoing("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0, token: {TOKEN}, tap: true }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
{}",
        route(&origin, "")
    ));
    let call = |method: &str, target: &str| {
        ask(
            gateway.admin(),
            format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
            ),
        )
    };
    let mut wire = open(&gateway);
    echoes(&mut wire, b"x");
    let id = call("GET", "/api/v1/sockets").json()["rows"][0]["id"].clone();
    let refused = call("GET", &format!("/api/v1/tap?socket={id}"));
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("a connection of the protocol `tcp`, without messages"),
        "{}",
        refused.text()
    );
    let closed = call("POST", &format!("/api/v1/sockets/{id}/close"));
    assert_eq!((closed.status, closed.json()["protocol"].as_str()), (200, Some("tcp")));
    assert_eq!(wire.rest(), b"", "nothing of the backend's answer to the end");
    let counted =
        "moongate_upgraded_closed_total{route=\"raw\",protocol=\"tcp\",by=\"gateway\",reason=\"operator\"} 1";
    eventually("the end is counted", || call("GET", "/metrics").text().contains(counted).then_some(()));
}

#[test]
fn limits_of_the_route_apply() {
    let origin = echoing("a");
    let per_client = "max_connections: 3, max_connections_per_client: { limit: 2, key: 'header:X-Client' }";
    let gateway = Gateway::start(&route(&origin, per_client));
    let as_client = |name: &str| {
        let mut wire = gateway.wire();
        wire.send(request("/", "tcp").replace("Host:", &format!("X-Client: {name}\r\nHost:")));
        let response = wire.response();
        (response.status, response.text(), wire)
    };
    let first = as_client("a");
    let second = as_client("a");
    assert_eq!((first.0, second.0), (101, 101));
    let third = as_client("a");
    assert_eq!((third.0, third.1.contains("too_many_of_client")), (429, true));
    let other = as_client("b");
    assert_eq!(other.0, 101);
    let beyond = as_client("c");
    assert_eq!((beyond.0, beyond.1.contains("too_many_connections")), (503, true));
    // WebSockets and relays share the limit.
    assert_eq!(Socket::open_with(gateway.web(), "/", &[]).err(), Some(503));
    assert_eq!(gateway.get("/").status, 200, "other requests have none");
    drop(other);
    eventually("a place is free", || (as_client("c").0 == 101).then_some(()));
    drop((first, second));

    let gateway = Gateway::start(&route(&origin, "handshake_rate: 10/h"));
    assert_eq!(ask(gateway.web(), request("/", "foo")).status, 200);
    drop(open(&gateway));
    let refused = ask(gateway.web(), request("/", "tcp"));
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("too_many_handshakes"), "{}", refused.text());
}

#[test]
fn clocks_of_the_route_apply() {
    let close = "close_timeout: 300ms";
    let origin = echoing("a");
    for (limit, reason) in [("idle_timeout: 300ms", "idle_timeout"), ("max_age: 300ms", "max_age")] {
        let gateway = Gateway::start(&route(&origin, &format!("{limit}, {close}")));
        ended(&mut open(&gateway));
        closed(&gateway, "gateway", reason, 1);
    }
    // Pings and their limits are for WebSockets.
    let gateway = Gateway::start(&route(&origin, "ping_interval: 100ms, ping_timeout: 100ms"));
    stays(&mut open(&gateway));
    // A client that reads nothing.
    let flooding = Origin::scripted("a", |seen, wire| {
        assert!(agree(seen, wire));
        while wire.try_send([7; 64 << 10]).is_ok() {}
        Next::Close
    });
    let gateway = Gateway::start(&route(&flooding, &format!("write_timeout: 300ms, {close}")));
    let _wire = open(&gateway);
    closed(&gateway, "client", "write_timeout", 1);
}

#[test]
fn a_client_above_its_rate_is_slowed_down_or_disconnected() {
    let origin = echoing("a");
    let rate = "bytes_per_second: 100KiB, messages_per_second: 1, close_timeout: 300ms";
    let gateway = Gateway::start(&route(&origin, rate));
    let mut wire = open(&gateway);
    let began = std::time::Instant::now();
    echoes(&mut wire, &vec![1; 200 << 10]);
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    let gateway = Gateway::start(&route(&origin, &format!("{rate}, on_exceed: close")));
    let mut wire = open(&gateway);
    // The relay may end before all of it is sent.
    let _ = wire.try_send(vec![1; 200 << 10]);
    let _ = wire.try_rest();
    closed(&gateway, "gateway", "rate", 1);
}

#[test]
fn a_lost_side_ends_the_relay_after_what_it_sent() {
    let (origin, authority) = (echoing("a"), Authority::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lost = listener.local_addr().unwrap();
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}
{}  - {{ name: lost, path: /lost, upstream: ['{lost}'], upgrades: [tcp] }}",
        quoted(&pair.cert),
        quoted(&pair.key),
        route(&origin, "close_timeout: 300ms").replace("routes: [", "routes:\n  - ").replace("}]\n", "}\n")
    ));
    let connect = || authority.client().connect(gateway.listener("tls"), "localhost").unwrap();
    for _ in 0..20 {
        // What a reset backend sent is incomplete: with TLS it has no closing alert.
        let mut secure = connect();
        secure.send(request("/lost", "tcp").as_bytes()).unwrap();
        let mut backend = Wire::of(listener.accept().unwrap().0);
        backend.head().unwrap().unwrap();
        backend.send(format!("{}last words", switching("tcp")));
        assert_eq!(secure.response().unwrap().status, 101);
        assert_eq!(secure.exactly(10).unwrap(), b"last words");
        backend.reset_on_drop();
        drop(backend);
        assert_eq!(secure.rest().unwrap_err().0.kind(), ErrorKind::UnexpectedEof);
        // What a backend has completed has one.
        let mut secure = Client::Secure(Box::new(connect()));
        secure.send(request("/", "tcp"));
        assert_eq!(secure.response().status, 101);
        secure.end_sending();
        assert_eq!(secure.rest(), b"end");
    }
    let lost = [("route", "lost"), ("by", "backend"), ("reason", "reset")];
    eventually("every reset is counted", || {
        (gateway.metrics().sum("moongate_upgraded_closed_total", &lost) == 20.0).then_some(())
    });
    closed(&gateway, "client", "eof", 20);
    // A client with TLS that vanishes without its alert.
    let mut secure = connect();
    secure.send(request("/", "tcp").as_bytes()).unwrap();
    assert_eq!(secure.response().unwrap().status, 101);
    secure.stream.shutdown(std::net::Shutdown::Write).unwrap();
    closed(&gateway, "client", "reset", 1);
    // And a plain one that is reset.
    let wire = open(&gateway);
    wire.reset_on_drop();
    drop(wire);
    closed(&gateway, "client", "reset", 2);
}

#[test]
fn a_drain_ends_relays_over_its_window() {
    let origin = echoing("a");
    let gateway = Gateway::start(&route(&origin, "drain_window: 1s, close_timeout: 300ms"));
    let mut wires: Vec<_> = (0..6).map(|_| open(&gateway)).collect();
    wires.iter_mut().for_each(|wire| echoes(wire, b"before"));
    let drain = order(&gateway, &format!("/api/v1/upstreams/raw/endpoints/{origin}/drain"));
    assert_eq!(drain.status, 200, "{}", drain.text());
    wires.iter_mut().for_each(ended);
    closed(&gateway, "gateway", "drain_operator", 6);
    let undrain = order(&gateway, &format!("/api/v1/upstreams/raw/endpoints/{origin}/undrain"));
    assert_eq!(undrain.status, 200);

    // The process waits for them.
    let mut wires: Vec<_> = (0..3).map(|_| open(&gateway)).collect();
    gateway.signal("TERM");
    wires.iter_mut().for_each(ended);
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
}

#[test]
fn what_waits_for_a_slow_client_is_delivered_before_a_drain_ends_it() {
    let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let sent = bytes.clone();
    let origin = Origin::scripted("a", move |seen, wire| {
        assert!(agree(seen, wire));
        wire.try_send(&sent).unwrap();
        // Until the gateway ends the relay.
        wire.try_rest().unwrap();
        Next::Close
    });
    let gateway = Gateway::start(&route(&origin, "drain_window: 0s"));
    let mut wire = open(&gateway);
    let begin = wire.exactly(1 << 20).unwrap();
    gateway.signal("TERM");
    // Whole up to some byte: the rest stays with the backend.
    let all = [begin, wire.rest()].concat();
    assert!(bytes.starts_with(&all), "bytes are changed or missing in between");
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
}

#[test]
fn a_reload_that_removes_the_route_or_the_protocol_keeps_relays_unless_they_are_to_be_drained() {
    let origin = echoing("a");
    let file = |websocket: &str, upgrades: &str| {
        format!(
            "routes:
  - {{ name: raw, path: /attach, upstream: ['{origin}'], upgrades: [{upgrades}], websocket: {{ drain_window: 300ms, close_timeout: 300ms, {websocket} }} }}
  - {{ name: other, path: /other, upstream: ['{origin}'] }}"
        )
    };
    let without = format!("routes: [{{ name: other, path: /other, upstream: ['{origin}'] }}]");
    for (websocket, is_drained) in [("", false), ("on_reload: drain", true)] {
        for changed in [without.clone(), file(websocket, "'SPDY/3.1'")] {
            let log = AccessLog::new();
            let gateway = Gateway::start(&format!("{}{}", log.yaml(), file(websocket, "tcp")));
            let mut wire = open(&gateway);
            echoes(&mut wire, b"before");
            gateway.reload(&format!("{}{changed}", log.yaml())).unwrap();
            if is_drained {
                ended(&mut wire);
                let end = log.wait("the end", |line| line["event"] == "close");
                assert_eq!((&end["reason"], &end["by"]), (&"drain_route".into(), &"gateway".into()));
            } else {
                stays(&mut wire);
            }
            let next = ask(gateway.web(), request("/attach", "tcp"));
            assert_eq!(next.status, if changed == without { 404 } else { 200 });
        }
    }
}

#[test]
fn a_refused_recheck_ends_a_relay() {
    let (origin, is_refused) = (echoing("a"), Arc::new(AtomicBool::new(false)));
    let refuses = Arc::clone(&is_refused);
    let service = Origin::scripted("auth", move |_, wire| {
        let status = if refuses.load(SeqCst) { 401 } else { 200 };
        wire.try_send(crate::support::origin::answer(status, "", b"")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = Gateway::start(&format!(
        "upstreams: {{ auth: {{ endpoints: [{service}] }} }}
routes: [{{ name: raw, upstream: [{origin}], upgrades: [tcp], websocket: {{ close_timeout: 300ms }}, plugins: [{{ kind: forward_auth, upstream: auth, recheck: 1s }}] }}]"
    ));
    let mut wire = open(&gateway);
    eventually("it is asked about again", || (service.count() >= 3).then_some(()));
    echoes(&mut wire, b"still good");
    is_refused.store(true, SeqCst);
    ended(&mut wire);
    closed(&gateway, "gateway", "plugin_refused", 1);
}

#[test]
fn relays_move_to_a_new_process() {
    let (origin, authority) = (echoing("a"), Authority::new());
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}
{}",
        quoted(&pair.cert),
        quoted(&pair.key),
        route(&origin, "max_connections: 4, drain_window: 300ms, close_timeout: 300ms")
    ));
    let secure = || {
        let connected = authority.client().connect(gateway.listener("tls"), "localhost");
        let mut client = Client::Secure(Box::new(connected.unwrap()));
        client.send(request("/attach?stream=1", "tcp"));
        assert_eq!(client.response().status, 101);
        client
    };
    let mut all = [Client::Plain(open(&gateway)), secure()];
    all.iter_mut().for_each(|client| client.echoes(b"before"));
    let row = || {
        let list = get(gateway.admin(), "/api/v1/sockets?sort=id").json();
        let facts =
            |row: &Value| ["id", "protocol", "path", "bytes", "endpoint"].map(|name| row[name].clone());
        list["rows"].as_array().unwrap().iter().map(facts).collect::<Vec<_>>()
    };
    let before = eventually("the bytes are counted", || {
        let rows = row();
        rows.iter().all(|row| row[3]["to_client"] == 6).then_some(rows)
    });
    for _ in 0..2 {
        assert_eq!(upgraded(&gateway), (2, 0));
        assert_eq!(row(), before);
    }
    all.iter_mut().for_each(|client| client.echoes(b"after"));
    assert_eq!(gateway.status()["upgraded"], 2);
    // Limits count them, and so do the metrics.
    let more = [open(&gateway), open(&gateway)];
    assert_eq!(ask(gateway.web(), request("/", "tcp")).status, 503);
    drop(more);
    for client in &mut all {
        client.end_sending();
        assert_eq!(client.rest(), b"end");
    }
    let labels = [("route", "raw"), ("reason", "eof")];
    eventually("their ends are counted", || {
        (gateway.metrics().sum("moongate_upgraded_closed_total", &labels) == 4.0).then_some(())
    });
}

#[test]
fn a_relay_that_cannot_move_is_closed_over_the_drain_window() {
    let origin = Origin::scripted("a", |seen, wire| {
        assert!(agree(seen, wire));
        // The end of the client's direction, then that of the gateway.
        assert_eq!(wire.rest(), b"stdin");
        while wire.try_send("output").is_ok() {
            std::thread::yield_now();
        }
        Next::Close
    });
    let authority = Authority::new();
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}]
{}",
        quoted(&pair.cert),
        quoted(&pair.key),
        route(&origin, "drain_window: 300ms, close_timeout: 300ms")
    ));
    let mut secure = authority.client().connect(gateway.web(), "localhost").unwrap();
    secure.send(request("/", "tcp").as_bytes()).unwrap();
    assert_eq!(secure.response().unwrap().status, 101);
    secure.send(b"stdin").unwrap();
    secure.notify_close();
    assert_eq!(secure.exactly(6).unwrap(), b"output");
    // TLS that is half-closed has no state that moves.
    assert_eq!(upgraded(&gateway), (0, 1));
    // What was read is delivered, and the end has its alert.
    let rest = secure.rest().unwrap();
    assert!(rest.chunks(6).all(|part| b"output".starts_with(part)));
}

#[test]
fn a_half_closed_relay_moves_if_both_sides_are_plain() {
    let origin = Origin::scripted("a", |seen, wire| {
        assert!(agree(seen, wire));
        assert_eq!(wire.rest(), b"stdin");
        // After the end of the client's direction, and after the move.
        while wire.try_send("output").is_ok() {
            std::thread::yield_now();
        }
        Next::Close
    });
    let gateway = Gateway::start(&route(&origin, ""));
    let mut wire = open(&gateway);
    wire.send("stdin");
    wire.half_close();
    assert_eq!(wire.exactly(6).unwrap(), b"output");
    assert_eq!(upgraded(&gateway), (1, 0));
    for _ in 0..100_000 {
        assert_eq!(wire.exactly(6).unwrap(), b"output");
    }
}
