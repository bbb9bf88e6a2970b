//! Drains for every cause: the selected WebSockets are closed with 1012, the others stay.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, Socket, eventually};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Long enough for a mistake to show.
const QUIET: Duration = Duration::from_millis(1500);

/// One upstream behind a route with its own policy, and behind another one.
fn file(endpoints: &[String], upstream: &str, websocket: &str) -> String {
    format!(
        "upstreams:
  all: {{ endpoints: [{}], balance: least_connections{upstream} }}
routes:
  - {{ name: chat, path: /chat, upstream: all, websocket: {{ drain_window: 500ms, {websocket} }} }}
  - {{ name: other, path: /other, upstream: all, websocket: {{ drain_window: 500ms }} }}",
        endpoints.join(", ")
    )
}

fn both(a: &Origin, b: &Origin) -> Vec<String> {
    vec![a.to_string(), b.to_string()]
}

fn open(gateway: &Gateway, path: &str, count: usize) -> Vec<Socket> {
    (0..count).map(|_| Socket::open(gateway.web(), path)).collect()
}

/// The WebSockets of the backend `a`, and the others.
fn part(sockets: Vec<Socket>) -> (Vec<Socket>, Vec<Socket>) {
    sockets.into_iter().partition(|socket| socket.backend == "a")
}

/// All of them are closed with 1012.
fn asked(sockets: &mut [Socket]) {
    for socket in sockets {
        assert_eq!(socket.end(), Some(1012));
    }
}

/// None of them is closed.
fn spared(sockets: &mut [Socket]) {
    if let Some(first) = sockets.first_mut() {
        first.stay_silent(QUIET);
    }
    sockets.iter_mut().for_each(|socket| socket.echo("still here"));
}

/// The metrics count this number closed by the gateway with 1012 for that reason, and none for another one.
fn counted(gateway: &Gateway, route: &str, reason: &str, count: usize) {
    let name = "moongate_websocket_closed_total";
    let labels = [("route", route), ("code", "1012"), ("by", "gateway"), ("reason", reason)];
    eventually(&format!("{count} of {route} closed by {reason}"), || {
        (gateway.metrics().sum(name, &labels) == count as f64).then_some(())
    });
    assert_eq!(gateway.metrics().sum(name, &[("code", "1012")]), count as f64);
}

fn order(gateway: &Gateway, method: &str, path: &str) -> Response {
    let host = gateway.admin();
    let fields = "Connection: close\r\nContent-Length: 0";
    ask(host, format!("{method} /api/v1/upstreams/{path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n"))
}

fn draining(gateway: &Gateway, origin: &Origin) -> Value {
    let status = gateway.status();
    let endpoints = status["upstreams"]["all"]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["address"] == origin.to_string()).unwrap()["draining"].clone()
}

#[test]
fn a_reload_that_changes_nothing_closes_no_websocket() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = file(&both(&a, &b), "", "on_reload: drain, on_unhealthy: drain");
    let gateway = Gateway::start(&yaml);
    let mut sockets = open(&gateway, "/chat", 10);
    for _ in 0..3 {
        gateway.reload(&yaml).unwrap();
    }
    gateway.reload(&format!("# A comment moves every line.\n\n{yaml}")).unwrap();
    spared(&mut sockets);
}

#[test]
fn the_websockets_of_a_removed_endpoint_are_drained_if_the_route_demands_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&both(&a, &b), "", "on_reload: drain"));
    let (mut on_a, mut on_b) = part(open(&gateway, "/chat", 10));
    gateway.reload(&file(&[b.to_string()], "", "on_reload: drain")).unwrap();
    asked(&mut on_a);
    spared(&mut on_b);
    counted(&gateway, "chat", "drain_endpoint", 5);
    a.await_sockets(0);
}

#[test]
fn the_websockets_of_a_removed_endpoint_stay_by_default() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&both(&a, &b), "", ""));
    let mut sockets = open(&gateway, "/chat", 10);
    gateway.reload(&file(&[b.to_string()], "", "")).unwrap();
    spared(&mut sockets);
}

#[test]
fn a_request_at_a_removed_endpoint_gets_its_response() {
    let gate = std::sync::Arc::new(crate::support::Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let a = Origin::scripted("a", move |_, wire| {
        held.pass_within(crate::support::LIMIT);
        let answer = crate::support::origin::answer(200, "", b"in the end");
        wire.try_send(answer).map_or(crate::support::Next::Close, |()| crate::support::Next::Keep)
    });
    let b = Origin::named("b");
    let gateway = Gateway::start(&file(&[a.to_string()], "", ""));
    let mut wire = gateway.wire();
    wire.send("GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n");
    a.await_seen(1);
    gateway.reload(&file(&[b.to_string()], "", "")).unwrap();
    assert_eq!(gateway.get("/chat").text(), "b");
    gate.open();
    assert_eq!(wire.response().text(), "in the end");
}

#[test]
fn a_marked_endpoint_is_left_and_gets_nothing_new() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&both(&a, &b), "", ""));
    let (mut on_a, mut on_b) = part(open(&gateway, "/chat", 10));
    let marked = [format!("{{ address: '{a}', drain: true }}"), b.to_string()];
    gateway.reload(&file(&marked, "", "")).unwrap();
    assert_eq!(draining(&gateway, &a), json!("marked"));
    assert_eq!(draining(&gateway, &b), Value::Null);
    asked(&mut on_a);
    spared(&mut on_b);
    assert!(gateway.names("/other", 10).iter().all(|name| name == "b"));
    assert!(open(&gateway, "/chat", 5).iter().all(|socket| socket.backend == "b"));
    counted(&gateway, "chat", "drain_endpoint", 5);

    gateway.reload(&file(&both(&a, &b), "", "")).unwrap();
    assert_eq!(Socket::open(gateway.web(), "/chat").backend, "a", "it is back, and empty");
}

#[test]
fn an_unhealthy_endpoint_is_drained_if_the_route_demands_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let check = ", health_check: { kind: http, path: /health, interval: 50ms, unhealthy_after: 2 }";
    let gateway = Gateway::start(&file(&both(&a, &b), check, "on_unhealthy: drain"));
    let (mut on_a, mut on_b) = part(open(&gateway, "/chat", 10));
    let mut others = open(&gateway, "/other", 10);
    a.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    asked(&mut on_a);
    spared(&mut on_b);
    spared(&mut others);
    counted(&gateway, "chat", "drain_unhealthy", 5);
}

#[test]
fn an_unhealthy_endpoint_keeps_its_websockets_when_none_is_healthy() {
    let a = Origin::named("a");
    let check = ", health_check: { kind: http, path: /health, interval: 50ms, unhealthy_after: 2 }";
    let gateway = Gateway::start(&file(&[a.to_string()], check, "on_unhealthy: drain"));
    let mut sockets = open(&gateway, "/chat", 5);
    a.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    spared(&mut sockets);
}

#[test]
fn a_changed_route_drains_its_websockets_if_configured() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (policy, leaves) in [("on_reload: drain", true), ("on_reload: keep", false)] {
        let gateway = Gateway::start(&file(&both(&a, &b), "", policy));
        let mut sockets = open(&gateway, "/chat", 6);
        let mut others = open(&gateway, "/other", 2);
        gateway.reload(&file(&both(&a, &b), "", &format!("{policy}, max_message: 1MiB"))).unwrap();
        let mut newer = open(&gateway, "/chat", 2);
        if leaves {
            asked(&mut sockets);
            counted(&gateway, "chat", "drain_route", 6);
        } else {
            spared(&mut sockets);
        }
        spared(&mut newer);
        spared(&mut others);
    }
}

#[test]
fn a_route_with_another_destination_drains_its_websockets_if_configured() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = |to: &str| {
        format!(
            "upstreams: {{ one: {{ endpoints: ['{a}'] }}, two: {{ endpoints: ['{b}'] }} }}
routes: [{{ name: chat, upstream: {to}, websocket: {{ drain_window: 500ms, on_reload: drain }} }}]"
        )
    };
    let gateway = Gateway::start(&yaml("one"));
    let mut sockets = open(&gateway, "/", 4);
    gateway.reload(&yaml("two")).unwrap();
    asked(&mut sockets);
    assert_eq!(Socket::open(gateway.web(), "/").backend, "b");
    counted(&gateway, "chat", "drain_route", 4);
}

#[test]
fn a_removed_route_drains_its_websockets_if_configured() {
    let a = Origin::named("a");
    let without = format!(
        "upstreams: {{ all: {{ endpoints: ['{a}'] }} }}
routes: [{{ name: other, path: /other, upstream: all }}]"
    );
    for (policy, leaves) in [("on_reload: drain", true), ("", false)] {
        let gateway = Gateway::start(&file(&[a.to_string()], "", policy));
        let mut sockets = open(&gateway, "/chat", 4);
        let mut others = open(&gateway, "/other", 2);
        gateway.reload(&without).unwrap();
        if leaves {
            asked(&mut sockets);
        } else {
            spared(&mut sockets);
        }
        // A changed window needs no reconnect.
        spared(&mut others);
    }
}

#[test]
fn an_operator_drains_an_endpoint_and_takes_it_back() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = file(&both(&a, &b), "", "");
    let gateway = Gateway::start(&yaml);
    let (mut on_a, mut on_b) = part(open(&gateway, "/chat", 10));
    let answer = order(&gateway, "POST", &format!("all/endpoints/{a}/drain"));
    assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })));
    asked(&mut on_a);
    spared(&mut on_b);
    counted(&gateway, "chat", "drain_operator", 5);

    assert_eq!(draining(&gateway, &a), json!("operator"));
    gateway.reload(&format!("{yaml}\nplugins: [request_id]")).unwrap();
    gateway.reload(&file(&both(&a, &b), ", retries: 1", "")).unwrap();
    assert_eq!(draining(&gateway, &a), json!("operator"), "a reload of the same endpoint keeps it");
    assert!(gateway.names("/other", 10).iter().all(|name| name == "b"));

    let encoded = a.to_string().replace(':', "%3A");
    assert_eq!(order(&gateway, "DELETE", &format!("all/endpoints/{encoded}/drain")).status, 200);
    assert_eq!(draining(&gateway, &a), Value::Null);
    assert_eq!(Socket::open(gateway.web(), "/chat").backend, "a");
}

#[test]
fn a_backend_that_ends_while_it_is_drained_costs_its_clients_1012_and_another_one_1001() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: ['{a}', '{b}'], balance: round_robin }} }}
routes: [{{ name: chat, upstream: all, websocket: {{ drain_window: 1h }} }}]"
    ));
    let (mut of_a, mut of_b) = part(open(&gateway, "/", 20));
    assert_eq!(order(&gateway, "POST", &format!("all/endpoints/{a}/drain")).status, 200);
    gateway.log().wait(0, &["WebSocket drain started"]);
    // An input that was not read makes the end a reset.
    of_a.iter_mut().chain(&mut of_b).step_by(2).for_each(|socket| socket.say("unread"));
    a.die();
    b.die();
    of_a.iter_mut().for_each(|socket| assert_eq!(socket.end(), Some(1012)));
    of_b.iter_mut().for_each(|socket| assert_eq!(socket.end(), Some(1001)));
}

#[test]
fn undrained_websockets_stay_when_an_order_is_reverted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = file(&both(&a, &b), "", "").replace("drain_window: 500ms", "drain_window: 1d");
    let gateway = Gateway::start(&yaml);
    let mut sockets = open(&gateway, "/chat", 10);
    assert_eq!(order(&gateway, "POST", &format!("all/endpoints/{a}/drain")).status, 200);
    gateway.log().wait(0, &["WebSocket drain started"]);
    assert_eq!(order(&gateway, "POST", &format!("all/endpoints/{a}/undrain")).status, 200);
    spared(&mut sockets);
}

#[test]
fn an_order_for_what_is_not_there_is_refused() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&file(&[a.to_string()], "", ""));
    for path in [format!("none/endpoints/{a}/drain"), "all/endpoints/127.0.0.1:1/drain".to_owned()] {
        assert_eq!(order(&gateway, "POST", &path).status, 404, "{path}");
    }
    let wrong = order(&gateway, "GET", &format!("all/endpoints/{a}/drain"));
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("POST, DELETE")));
    assert_eq!(draining(&gateway, &a), Value::Null);
}

#[test]
fn the_access_log_has_the_reason() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log: {{ path: '{}' }}\n", path.display());
    let gateway = Gateway::start(&format!("{log}{}", file(&both(&a, &b), "", "")));
    let (mut on_a, _on_b) = part(open(&gateway, "/chat", 2));
    order(&gateway, "POST", &format!("all/endpoints/{a}/drain"));
    asked(&mut on_a);
    let line: Value = eventually("the line of the close", || {
        let text = fs::read_to_string(&path).ok()?;
        let line = text.lines().find(|line| line.contains(r#""event":"close""#))?;
        serde_json::from_str(line).ok()
    });
    let told = [&line["reason"], &line["by"], &line["code"], &line["endpoint"], &line["route"]];
    assert_eq!(
        told,
        [&json!("drain_operator"), &json!("gateway"), &json!(1012), &json!(a.to_string()), &json!("chat")]
    );
}

/// Clients that reconnect at once, on threads of their own, until they are stopped.
#[test]
fn rebalancing_after_a_scale_out_evens_out() {
    const ALL: usize = 40;
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let rebalance = ", rebalance: { threshold: 1.3, window: 2s }";
    let gateway = Gateway::start(&file(&[a.to_string()], rebalance, ""));
    let web = gateway.web();
    let clients: Vec<_> = open(&gateway, "/chat", ALL)
        .into_iter()
        .map(|mut socket| {
            std::thread::spawn(move || {
                let mut moves = 0;
                while socket.end() == Some(1012) {
                    moves += 1;
                    socket = Socket::open(web, "/chat");
                }
                moves
            })
        })
        .collect();
    gateway.reload(&file(&both(&a, &b), rebalance, "")).unwrap();
    a.await_sockets(ALL / 2);
    b.await_sockets(ALL / 2);
    counted(&gateway, "chat", "drain_rebalance", ALL / 2);
    // After two more checks it is even, and none is closed.
    open(&gateway, "/other", 1)[0].stay_silent(Duration::from_millis(2500));
    counted(&gateway, "chat", "drain_rebalance", ALL / 2);
    a.die();
    b.die();
    let moves: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(moves, ALL / 2, "nobody moved twice");
}

// Without `the_websockets_of_a_removed_endpoint_stay_by_default`: a discovery has `on_removal`.
crate::both_kinds!(
    a_reload_that_changes_nothing_closes_no_websocket,
    the_websockets_of_a_removed_endpoint_are_drained_if_the_route_demands_it,
    a_request_at_a_removed_endpoint_gets_its_response,
    a_marked_endpoint_is_left_and_gets_nothing_new,
    an_unhealthy_endpoint_is_drained_if_the_route_demands_it,
    an_unhealthy_endpoint_keeps_its_websockets_when_none_is_healthy,
    a_changed_route_drains_its_websockets_if_configured,
    a_route_with_another_destination_drains_its_websockets_if_configured,
    a_removed_route_drains_its_websockets_if_configured,
    an_operator_drains_an_endpoint_and_takes_it_back,
    a_backend_that_ends_while_it_is_drained_costs_its_clients_1012_and_another_one_1001,
    undrained_websockets_stay_when_an_order_is_reverted,
    an_order_for_what_is_not_there_is_refused,
    the_access_log_has_the_reason,
    rebalancing_after_a_scale_out_evens_out,
);
