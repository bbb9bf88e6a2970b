//! Backends that accept a connection and do not respond: the client's wait, and passive health.

use crate::support::{Gateway, Next, Origin, Socket};

/// Accepts every request without a response, until the gateway times out.
fn mute() -> Origin {
    Origin::scripted("mute", |_, wire| {
        let _ = wire.fill();
        Next::Close
    })
}

fn route(endpoints: &[&Origin], upstream: &str, websocket: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|origin| format!("'{origin}'")).collect();
    format!(
        "upstreams:
  all: {{ endpoints: [{}]{upstream} }}
routes: [{{ name: chat, upstream: all, websocket: {{ {websocket} }} }}]",
        endpoints.join(", ")
    )
}

#[test]
fn a_backend_that_responds_to_no_handshake_is_ejected() {
    let (mute, well) = (mute(), Origin::named("well"));
    let passive = ", passive_health: { failures: 3, eject_for: 1h }";
    let gateway = Gateway::start(&route(&[&mute, &well], passive, "handshake_timeout: 200ms"));
    for _ in 0..10 {
        assert_eq!(Socket::open(gateway.web(), "/ws").backend, "well");
    }
    assert_eq!(mute.count(), 3);
    let metrics = gateway.metrics();
    let labels = [("upstream", "all"), ("endpoint", &*mute.to_string()), ("reason", "handshake_timeout")];
    assert_eq!(metrics.sum("moongate_upstream_failures_total", &labels), 3.0);
    assert_eq!(metrics.sum("moongate_upstream_healthy", &labels[..2]), 0.0);
}

#[test]
fn the_routes_timeout_bounds_a_handshake_where_it_is_shorter_than_the_default() {
    let mute = mute();
    let yaml = format!("routes: [{{ upstream: ['{mute}'], timeout: 200ms }}]");
    let gateway = Gateway::start(&yaml);
    assert_eq!(Socket::open_with(gateway.web(), "/ws", &[]).err(), Some(504));
}

#[test]
fn retries_consume_no_turn() {
    let (mute, a, b) = (mute(), Origin::named("a"), Origin::named("b"));
    let never = ", retries: 1, passive_health: { failures: 0 }";
    let gateway = Gateway::start(&route(&[&mute, &a, &b], never, "handshake_timeout: 100ms"));
    let sockets: Vec<_> = (0..12).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let at = |name: &str| sockets.iter().filter(|socket| socket.backend == name).count();
    assert_eq!((mute.count(), at("a"), at("b")), (4, 6, 6));

    let dead = Origin::named("dead");
    dead.die();
    let gateway = Gateway::start(&route(&[&dead, &a], never, ""));
    assert_eq!(gateway.names("/", 8), ["a"; 8]);
    let labels = [("upstream", "all"), ("endpoint", &*dead.to_string())];
    assert_eq!(
        gateway.metrics().sum("moongate_upstream_failures_total", &labels),
        4.0,
        "every other request"
    );
}

#[test]
fn a_redial_skips_backends_that_do_not_respond() {
    let (first, well) = (Origin::named("first"), Origin::named("well"));
    let (one, two) = (mute(), mute());
    // Without a configured limit, an attempt gets a third of the remaining time.
    let keep = "on_endpoint_loss: reconnect, reconnect_timeout: 6s";
    let never = ", passive_health: { failures: 0 }";
    let gateway = Gateway::start(&route(&[&first], never, keep));
    let mut sockets: Vec<_> = (0..6).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    gateway.reload(&route(&[&one, &well, &two], never, keep)).unwrap();
    first.die();
    well.await_sockets(sockets.len());
    sockets.iter_mut().for_each(|socket| socket.echo("still here"));
    let failed = [("upstream", "all"), ("reason", "handshake_timeout")];
    assert!(gateway.metrics().sum("moongate_upstream_failures_total", &failed) >= 2.0);
}
