//! Tests of drained WebSockets, with generations without sockets and a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::control::socketless_harness::{Socket, TestHarness, asked};
use crate::tunnel::Cause;
use crate::upstream::Order;
use tokio::time::advance;

/// Two endpoints behind two routes.
fn file(endpoints: &str, websocket: &str) -> String {
    format!(
        "upstreams: {{ chat: {{ endpoints: [{endpoints}] }} }}
routes:
  - {{ name: a, path: /a, upstream: chat, websocket: {{ {websocket} }} }}
  - {{ name: b, path: /b, upstream: chat }}"
    )
}

const BOTH: &str = "127.0.0.1:1, 127.0.0.1:2";

/// Checks once a second for a duration, as the task does.
async fn pass(world: &TestHarness, drains: &mut Drains, seconds: u64) {
    for _ in 0..seconds {
        drains.look(&world.snapshot, world.generation);
        // Lets the started drains run up to their first wait.
        tokio::task::yield_now().await;
        advance(LOOK).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

fn world(websocket: &str) -> (TestHarness, Drains, Vec<Socket>) {
    let world = TestHarness::new(&file(BOTH, websocket));
    let drains = Drains::new(Arc::clone(&world.tunnels));
    let sockets = world.open("a", 10);
    (world, drains, sockets)
}

fn at(sockets: Vec<Socket>) -> [Vec<Socket>; 2] {
    let (one, two) = sockets.into_iter().partition(|socket| socket.port() == 1);
    [one, two]
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_drains_no_websocket() {
    let (mut world, mut drains, sockets) = world("on_reload: drain, on_unhealthy: drain");
    for _ in 0..3 {
        pass(&world, &mut drains, 40).await;
        world.reload(&file(BOTH, "on_reload: drain, on_unhealthy: drain"));
    }
    pass(&world, &mut drains, 100).await;
    assert_eq!(asked(&sockets), [(None, 10)].into());
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_is_drained_if_the_route_demands_it() {
    let (mut world, mut drains, sockets) = world("drain_window: 4s, on_reload: drain");
    let others = world.open("b", 10);
    pass(&world, &mut drains, 1).await;
    world.reload(&file("127.0.0.1:1", "drain_window: 4s, on_reload: drain"));
    pass(&world, &mut drains, 6).await;
    let [stay, leave] = at(sockets);
    assert_eq!(asked(&leave), [(Some("endpoint"), 5)].into());
    pass(&world, &mut drains, 60).await;
    assert_eq!(asked(&others), [(None, 10)].into(), "route b keeps its WebSockets");
    assert_eq!(asked(&stay), [(None, 5)].into());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_recovers_keeps_undrained_websockets() {
    let (mut world, mut drains, sockets) = world("drain_window: 100s, on_reload: drain");
    pass(&world, &mut drains, 1).await;
    world.reload(&file("127.0.0.1:1", "drain_window: 100s, on_reload: drain"));
    pass(&world, &mut drains, 50).await;
    world.reload(&file(BOTH, "drain_window: 100s, on_reload: drain"));
    let [_, leave] = at(sockets);
    let before = asked(&leave);
    assert!((1..5).contains(&before[&Some("endpoint")]), "{before:?}");
    pass(&world, &mut drains, 200).await;
    assert_eq!(asked(&leave), before);
}

#[tokio::test(start_paused = true)]
async fn a_marked_endpoint_is_drained_and_accepts_no_new_connections() {
    let (mut world, mut drains, sockets) = world("drain_window: 4s");
    pass(&world, &mut drains, 1).await;
    world.reload(&file("127.0.0.1:1, { address: '127.0.0.1:2', drain: true }", "drain_window: 4s"));
    pass(&world, &mut drains, 10).await;
    let [stay, leave] = at(sockets);
    assert_eq!(asked(&leave), [(Some("endpoint"), 5)].into());
    assert_eq!(asked(&stay), [(None, 5)].into());
    assert!(world.open("a", 20).iter().all(|socket| socket.port() == 1));
}

#[tokio::test(start_paused = true)]
async fn an_operators_order_survives_a_reload_and_is_reverted() {
    let (mut world, mut drains, sockets) = world("drain_window: 4s");
    let order = |world: &TestHarness, order| world.snapshot.cluster("chat")?.order("127.0.0.1:2", order);
    assert!(world.snapshot.cluster("chat").unwrap().order("127.0.0.1:3", Order::Drain).is_none());
    order(&world, Order::Drain).unwrap();
    let three = format!("{BOTH}, 127.0.0.1:3");
    world.reload(&file(&three, "drain_window: 4s"));
    pass(&world, &mut drains, 10).await;
    let [stay, leave] = at(sockets);
    assert_eq!(asked(&leave), [(Some("operator"), 5)].into());
    assert_eq!(asked(&stay), [(None, 5)].into());
    assert!(world.open("a", 20).iter().all(|socket| socket.port() != 2));
    order(&world, Order::Undrain).unwrap();
    assert!(world.open("a", 20).iter().any(|socket| socket.port() == 2));
}

/// Ejects the endpoints at these ports by failed connects.
fn break_down(world: &TestHarness, ports: &[u16]) {
    let sockets = world.open("b", 20);
    for _ in 0..3 {
        for port in ports {
            let socket = sockets.iter().find(|socket| socket.port() == *port).unwrap();
            socket.fail();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_endpoint_is_drained_if_the_route_demands_it() {
    let (world, mut drains, sockets) = world("drain_window: 2s, on_unhealthy: drain");
    let others = world.open("b", 10);
    break_down(&world, &[2]);
    pass(&world, &mut drains, 5).await;
    let [stay, leave] = at(sockets);
    assert_eq!(asked(&leave), [(Some("unhealthy"), 5)].into());
    assert_eq!(asked(&stay), [(None, 5)].into());
    assert_eq!(asked(&others), [(None, 10)].into(), "the other route keeps its own");
}

#[tokio::test(start_paused = true)]
async fn no_websocket_is_drained_without_another_endpoint() {
    let (world, mut drains, sockets) = world("drain_window: 2s, on_unhealthy: drain");
    break_down(&world, &[1, 2]);
    pass(&world, &mut drains, 5).await;
    assert_eq!(asked(&sockets), [(None, 10)].into());
}

#[tokio::test(start_paused = true)]
async fn a_changed_route_drains_its_former_websockets_if_configured() {
    for (policy, expected) in [("on_reload: drain, ", Some("route")), ("", None)] {
        let (mut world, mut drains, sockets) = world("drain_window: 2s");
        let others = world.open("b", 10);
        pass(&world, &mut drains, 1).await;
        world.reload(&file(BOTH, &format!("{policy}drain_window: 2s, max_message: 1MiB")));
        let newer = world.open("a", 10);
        pass(&world, &mut drains, 70).await;
        assert_eq!(asked(&sockets), [(expected, 10)].into(), "{policy}");
        assert_eq!(asked(&newer), [(None, 10)].into());
        assert_eq!(asked(&others), [(None, 10)].into());
    }
}

#[tokio::test(start_paused = true)]
async fn how_websockets_are_drained_changes_without_draining_them() {
    let (mut world, mut drains, sockets) = world("drain_window: 2s");
    pass(&world, &mut drains, 1).await;
    world.reload(&file(BOTH, "drain_window: 3s, on_reload: drain, on_unhealthy: drain"));
    pass(&world, &mut drains, 10).await;
    assert_eq!(asked(&sockets), [(None, 10)].into());
}

#[tokio::test(start_paused = true)]
async fn a_removed_route_keeps_its_last_policy() {
    let without = "upstreams: { chat: { endpoints: [127.0.0.1:1, 127.0.0.1:2] } }
routes: [{ name: b, upstream: chat }]";
    for (policy, expected) in [("on_reload: drain, ", Some("route")), ("", None)] {
        let (mut world, mut drains, sockets) = world(&format!("{policy}drain_window: 2s"));
        pass(&world, &mut drains, 1).await;
        world.reload(without);
        world.reload(without);
        pass(&world, &mut drains, 10).await;
        assert_eq!(asked(&sockets), [(expected, 10)].into(), "{policy}");
        drop(sockets);
        world.reload(&file(BOTH, ""));
        pass(&world, &mut drains, 1).await;
        world.reload(without);
        pass(&world, &mut drains, 1).await;
        assert_eq!(drains.policies.len(), 1, "the policy of a removed route is dropped");
    }
}

/// Renaming an upstream, or removing it with its route, changes the route.
#[tokio::test(start_paused = true)]
async fn the_endpoints_of_a_removed_upstream_are_drained_only_if_the_route_demands_it() {
    for (policy, expected) in [("on_reload: drain, ", Some("route")), ("", None)] {
        let (mut world, mut drains, sockets) = world(&format!("{policy}drain_window: 2s"));
        pass(&world, &mut drains, 1).await;
        world.reload(&file(BOTH, &format!("{policy}drain_window: 2s")).replace("chat", "talk"));
        pass(&world, &mut drains, 10).await;
        assert_eq!(asked(&sockets), [(expected, 10)].into(), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_was_under_way_is_noticed_later() {
    let (mut world, mut drains, _) = world("");
    pass(&world, &mut drains, 1).await;
    let under_way = world.handshake("a");
    world.reload(&file(BOTH, "on_reload: drain, drain_window: 2s, max_frame: 1MiB"));
    pass(&world, &mut drains, 10).await;
    let late = [world.join(under_way)];
    pass(&world, &mut drains, 10).await;
    assert_eq!(asked(&late), [(Some("route"), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_a_thousand_is_even() {
    let world = TestHarness::new(&file(BOTH, ""));
    let mut drains = Drains::new(Arc::clone(&world.tunnels));
    let sockets = world.open("a", 2_000);
    world.snapshot.cluster("chat").unwrap().order("127.0.0.1:2", Order::Drain).unwrap();
    let mut before = 0;
    for second in 0..30 {
        pass(&world, &mut drains, 1).await;
        let now = sockets.iter().filter(|socket| socket.asked() == Some(Cause::Operator)).count();
        assert!((25..=42).contains(&(now - before)), "{} in second {second}", now - before);
        before = now;
    }
}
