//! Reconnect storms: handshakes are accepted at a rate, and a new endpoint is not overloaded.

use crate::support::ws::handshake;
use crate::support::{Gateway, Origin, Response, Socket, Wire, eventually, get};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A handshake by hand: its response, and the connection.
fn knock(gateway: SocketAddr, path: &str) -> (Response, Wire) {
    let mut wire = Wire::connect(gateway);
    wire.send(handshake(path, ""));
    (wire.response(), wire)
}

fn status(gateway: SocketAddr, path: &str) -> u16 {
    knock(gateway, path).0.status
}

/// Concurrent handshakes: their responses, and the time to the last one.
fn storm(gateway: SocketAddr, clients: usize) -> (Vec<(Response, Wire)>, Duration) {
    let barrier = Barrier::new(clients + 1);
    std::thread::scope(|scope| {
        let client = || {
            barrier.wait();
            knock(gateway, "/ws")
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        // Taken before the first one: the measured time is at least the gateway's.
        let start = Instant::now();
        barrier.wait();
        let answers = clients.into_iter().map(|client| client.join().unwrap()).collect();
        (answers, start.elapsed())
    })
}

#[test]
fn a_storm_is_accepted_at_the_rate_of_its_route_and_the_rest_gets_retry_after() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ name: chat, upstream: ['{a}'], websocket: {{ handshake_rate: 50/s }} }}]"
    ));
    let (answers, took) = storm(gateway.web(), 200);
    let (open, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(response, _)| response.status == 101);
    let most = took.as_secs_f64() * 50.0 + 5.0;
    assert!(open.len() as f64 <= most + 1.0, "{} in {took:?}", open.len());
    assert!(open.len() >= 50, "a second's worth waits for its turn: {}", open.len());
    assert!(open.len() < 200 && !refused.is_empty());
    let mut moments = HashSet::new();
    for (response, _) in &refused {
        assert_eq!(response.status, 503, "{}", response.head);
        assert!(response.text().contains("too_many_handshakes"), "{}", response.text());
        let seconds: u32 = response.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds), "{seconds}");
        moments.insert(seconds);
    }
    assert!(moments.len() > 1, "they are not to come back together: {moments:?}");
    // A line is written after the response: the count may follow shortly after.
    let labels = [("route", "chat"), ("status", "503")];
    eventually("the refused are counted", || {
        let counted = gateway.metrics().sum("moongate_http_requests_total", &labels);
        (counted as usize == refused.len()).then_some(())
    });
    assert_eq!(a.count(), open.len(), "the backend saw nothing of the refused");
}

#[test]
fn waiting_handshakes_hold_no_endpoint_and_requests_pass_them() {
    let a = Origin::named("a");
    let yaml = format!(
        "upstreams: {{ all: {{ endpoints: ['{a}'] }} }}
routes: [{{ upstream: all, websocket: {{ handshake_rate: 1/s, max_connections: 2 }} }}]"
    );
    let gateway = Gateway::start(&yaml);
    let first = Socket::open(gateway.web(), "/ws");
    // The second one's turn is within a second of the first one's.
    let mut waiting = Wire::connect(gateway.web());
    waiting.send(handshake("/ws", ""));
    eventually("it waits, or its turn has come", || {
        let status = gateway.status();
        let open = status["websockets"].as_u64()?;
        if status["requests"].as_u64()? == 0 && open == 1 {
            return None;
        }
        let active = status["upstreams"]["all"]["endpoints"][0]["active"].as_u64()?;
        assert!(open == 2 || active == 1, "nothing is leased for who waits: {status}");
        Some(())
    });
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(waiting.response().status, 101);
    drop(first);
}

#[test]
fn a_refused_websocket_takes_no_turn_of_another() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: ['{a}'], websocket: {{ handshake_rate: 1/h, origins: ['https://here.example'] }} }}]"
    ));
    let from = |origin: &str| Socket::open_with(gateway.web(), "/ws", &[("Origin", origin)]);
    assert_eq!(from("https://there.example").err(), Some(403));
    assert!(from("https://here.example").is_ok());
    assert_eq!(from("https://here.example").err(), Some(503));
    assert_eq!(from("https://there.example").err(), Some(403), "the better reason first");
}

#[test]
fn a_reload_keeps_reservations() {
    let a = Origin::named("a");
    let route = |rate: &str, more: &str| {
        format!(
            "routes: [{{ name: chat, upstream: ['{a}'], websocket: {{ handshake_rate: {rate}{more} }} }}]"
        )
    };
    let gateway = Gateway::start(&route("1/h", ""));
    let web = gateway.web();
    assert_eq!([status(web, "/"), status(web, "/")], [101, 503]);
    gateway.reload(&route("1/h", ", ping_interval: 5s")).unwrap();
    assert_eq!(status(web, "/"), 503, "the hour is not over");
    gateway.reload(&route("2/h", "")).unwrap();
    assert_eq!([status(web, "/"), status(web, "/")], [101, 503], "another rate begins anew");
    assert_eq!(get(web, "/").status, 200);
}

#[test]
fn a_listener_s_rate_holds_for_all_its_routes_and_for_no_other_listener() {
    let a = Origin::named("a");
    let yaml = |rate: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0{rate} }}
  - {{ name: inside, address: 127.0.0.1:0 }}
routes:
  - {{ path: /one, upstream: ['{a}'], websocket: {{ handshake_rate: 2/h }} }}
  - {{ path: /two, upstream: ['{a}'] }}"
        )
    };
    let gateway = Gateway::start_whole(&yaml(", handshake_rate: 1/h"));
    let (web, inside) = (gateway.web(), gateway.listener("inside"));
    assert_eq!([status(web, "/two"), status(web, "/one"), status(web, "/two")], [101, 503, 503]);
    assert_eq!(get(web, "/one").status, 200, "requests are no handshakes");
    assert_eq!(status(inside, "/one"), 101, "the turn that the listener refused went back to the route");
    assert_eq!([status(inside, "/one"), status(inside, "/two")], [503, 101]);

    gateway.reload_whole(&yaml(", handshake_rate: 1/h, max_connections: 5")).unwrap();
    gateway.reload_whole(&yaml(", handshake_rate: 1/h")).unwrap();
    assert_eq!(status(web, "/two"), 503, "the hour is not over");
    gateway.reload_whole(&yaml("")).unwrap();
    assert_eq!(status(web, "/two"), 101, "a listener's rate can be changed while it listens");
}

fn cluster(balance: &str, more: &str, origins: &[&Origin]) -> String {
    let origins: Vec<_> = origins.iter().map(|origin| format!("'{origin}'")).collect();
    format!(
        "upstreams:
  all: {{ balance: {balance}, endpoints: [{}]{more} }}
routes: [{{ upstream: all }}]",
        origins.join(", ")
    )
}

fn open(gateway: &Gateway, count: usize) -> Vec<Socket> {
    (0..count).map(|_| Socket::open(gateway.web(), "/ws")).collect()
}

fn on(sockets: &[Socket], name: &str) -> usize {
    sockets.iter().filter(|socket| socket.backend == name).count()
}

#[test]
fn an_endpoint_added_by_reload_is_not_overloaded_and_none_is_new_at_the_start() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let slow = ", slow_start: 1h";
    let gateway = Gateway::start(&cluster("least_connections", slow, &[&a, &b]));
    let old = open(&gateway, 20);
    assert_eq!((on(&old, "a"), on(&old, "b")), (10, 10), "both were there from the start");
    gateway.reload(&cluster("least_connections", slow, &[&a, &b, &c])).unwrap();
    let new = open(&gateway, 20);
    // A tenth of what the others hold is one or two; without slow start nearly all twenty would go there.
    assert!(on(&new, "c") <= 2, "{}", on(&new, "c"));
    gateway.reload(&cluster("least_connections", "", &[&a, &b, &c])).unwrap();
    let rest = open(&gateway, 10);
    assert_eq!(on(&rest, "c"), 10, "without slow start the emptiest is filled first");
}

#[test]
fn a_recovered_endpoint_starts_slowly() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let more =
        ", slow_start: 1h, health_check: { kind: http, path: /health, interval: 50ms, unhealthy_after: 1 }";
    let gateway = Gateway::start(&cluster("round_robin", more, &[&a, &b]));
    gateway.await_health("all", a.address(), "healthy");
    gateway.await_health("all", b.address(), "healthy");
    let share = |names: &[String]| names.iter().filter(|name| *name == "b").count();
    assert_eq!(share(&gateway.names("/", 44)), 22, "nobody is new at the start");
    b.die();
    gateway.await_health("all", b.address(), "unhealthy");
    b.revive();
    gateway.await_health("all", b.address(), "healthy");
    assert_eq!(share(&gateway.names("/", 44)), 4, "one in eleven");
}

#[test]
fn clients_that_lost_their_endpoint_take_turns_at_the_rate_of_their_listener() {
    const CLIENTS: usize = 60;
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = |endpoints: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, handshake_rate: 40/s }}]
upstreams: {{ chat: {{ endpoints: [{endpoints}] }} }}
routes: [{{ upstream: chat, websocket: {{ on_endpoint_loss: reconnect, reconnect_timeout: 15s }} }}]"
        )
    };
    let gateway = Gateway::start_whole(&yaml(&format!("'{a}'")));
    let mut sockets: Vec<_> = (0..CLIENTS).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    a.await_sockets(CLIENTS);
    gateway.reload_whole(&yaml(&format!("'{b}'"))).unwrap();
    let begun = Instant::now();
    a.die();
    b.await_sockets(CLIENTS);
    // Four at once, then one every 25 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    for socket in &mut sockets {
        socket.echo("still here");
    }
}
