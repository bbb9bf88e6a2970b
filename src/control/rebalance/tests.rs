//! Tests of rounds, with generations without sockets and a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::control::socketless_harness::{Socket, TestHarness, asked, held};
use tokio::time::advance;

fn file(endpoints: &str, rebalance: &str) -> String {
    format!(
        "upstreams:
  chat: {{ endpoints: [{endpoints}], balance: least_connections, rebalance: {{ {rebalance} }} }}
routes: [{{ name: a, upstream: chat }}]"
    )
}

const ONE: &str = "127.0.0.1:1";
const TWO: &str = "127.0.0.1:1, 127.0.0.1:2";
const TEN_MINUTES: u64 = 600;

/// Checks once a second for a duration, as the task does.
async fn pass(world: &TestHarness, rebalances: &mut Rebalances, seconds: u64) {
    for _ in 0..seconds {
        rebalances.look(&world.snapshot);
        tokio::task::yield_now().await;
        advance(Duration::from_secs(1)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

/// `count` WebSockets at one endpoint, and a second endpoint that joins.
fn scaled_out(count: usize) -> (TestHarness, Rebalances, Vec<Socket>) {
    let mut world = TestHarness::new(&file(ONE, ""));
    let sockets = world.open("a", count);
    world.reload(&file(TWO, ""));
    let rebalances = Rebalances::new(Arc::clone(&world.tunnels));
    (world, rebalances, sockets)
}

/// Closes the drained WebSockets and returns their number.
fn leave(sockets: &mut Vec<Socket>) -> usize {
    let before = sockets.len();
    sockets.retain(|socket| socket.asked().is_none());
    before - sockets.len()
}

#[tokio::test(start_paused = true)]
async fn only_the_surplus_is_drained_over_the_window() {
    let (world, mut rebalances, sockets) = scaled_out(100);
    pass(&world, &mut rebalances, TEN_MINUTES / 2).await;
    let half = asked(&sockets)[&Some("rebalance")];
    assert!((20..=30).contains(&half), "{half} in half of the time");
    pass(&world, &mut rebalances, TEN_MINUTES).await;
    assert_eq!(asked(&sockets), [(None, 50), (Some("rebalance"), 50)].into());
}

#[tokio::test(start_paused = true)]
async fn clients_that_come_back_at_once_even_it_out() {
    let (world, mut rebalances, mut sockets) = scaled_out(100);
    let mut moved = 0;
    for _ in 0..2 * TEN_MINUTES {
        pass(&world, &mut rebalances, 1).await;
        let left = leave(&mut sockets);
        moved += left;
        sockets.extend(world.open("a", left));
    }
    assert_eq!(held(&sockets), [(1, 50), (2, 50)].into());
    assert_eq!(moved, 50, "no WebSocket moved twice");
    pass(&world, &mut rebalances, 2 * TEN_MINUTES).await;
    assert_eq!(leave(&mut sockets), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_clients_do_not_make_it_ask_others() {
    let (world, mut rebalances, mut sockets) = scaled_out(100);
    pass(&world, &mut rebalances, TEN_MINUTES + 10).await;
    assert_eq!(leave(&mut sockets), 50);
    // 50 and 0 is uneven, but 50 are still expected.
    pass(&world, &mut rebalances, 5 * TEN_MINUTES).await;
    assert_eq!(leave(&mut sockets), 0);
    sockets.extend(world.open("a", 50));
    pass(&world, &mut rebalances, 2 * TEN_MINUTES).await;
    assert_eq!(leave(&mut sockets), 0);
    assert_eq!(held(&sockets), [(1, 50), (2, 50)].into());
}

#[tokio::test(start_paused = true)]
async fn clients_that_never_come_back_are_waited_for_in_vain_only_so_long() {
    let (world, mut rebalances, mut sockets) = scaled_out(100);
    pass(&world, &mut rebalances, TEN_MINUTES + 10).await;
    assert_eq!(leave(&mut sockets), 50);
    pass(&world, &mut rebalances, 12 * TEN_MINUTES).await;
    assert_eq!(leave(&mut sockets), 25);
}

#[tokio::test(start_paused = true)]
async fn a_round_ends_early_when_others_leave_by_themselves() {
    let (world, mut rebalances, mut sockets) = scaled_out(100);
    sockets.extend(world.open("a", 20));
    pass(&world, &mut rebalances, 30).await;
    // Both hold 20 now.
    let few = leave(&mut sockets);
    let mut left = sockets.iter().filter(|socket| socket.port() == 1).count() - 20;
    sockets.retain(|socket| {
        let goes = left > 0 && socket.port() == 1;
        left -= usize::from(goes);
        !goes
    });
    sockets.extend(world.open("a", few));
    pass(&world, &mut rebalances, 2 * TEN_MINUTES).await;
    assert!(leave(&mut sockets) <= 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_off_by_default_and_can_be_switched_off() {
    let (mut world, mut rebalances, sockets) = scaled_out(100);
    pass(&world, &mut rebalances, 60).await;
    let some = asked(&sockets)[&Some("rebalance")];
    world.reload(&file(TWO, "").replace(", rebalance: {  }", ""));
    pass(&world, &mut rebalances, 2 * TEN_MINUTES).await;
    assert_eq!(asked(&sockets)[&Some("rebalance")], some);
}

#[tokio::test(start_paused = true)]
async fn little_is_left_alone() {
    let (world, mut rebalances, sockets) = scaled_out(8);
    pass(&world, &mut rebalances, 2 * TEN_MINUTES).await;
    assert_eq!(asked(&sockets), [(None, 8)].into());
}

#[test]
fn shares_follow_weights() {
    let holders = |held: [usize; 3]| -> Vec<_> {
        let each = [(1, 1), (2, 2), (3, 1)].into_iter().zip(held);
        each.map(|((endpoint, weight), websockets)| OverloadedEndpoint {
            endpoint,
            weight,
            limit: None,
            websockets,
        })
        .collect()
    };
    assert_eq!(overloaded(&holders([100, 200, 100]), 1.3), []);
    assert_eq!(overloaded(&holders([129, 200, 71]), 1.3), []);
    assert_eq!(overloaded(&holders([200, 200, 0]), 1.3), [(1, 100)]);
    assert_eq!(overloaded(&holders([0, 400, 0]), 1.3), [(2, 200)]);
    assert_eq!(overloaded(&holders([0, 0, 0]), 1.3), []);
    assert_eq!(overloaded(&[], 1.3), []);
    assert_eq!(surplus(&holders([200, 200, 0]), 1, 400), Some(0), "those who are expected count");
    assert_eq!(surplus(&holders([200, 200, 0]), 4, 0), None);
}

#[test]
fn a_limited_endpoint_has_no_more_than_its_limit_as_a_share() {
    let holder = |(endpoint, weight, limit, websockets)| OverloadedEndpoint {
        endpoint,
        weight,
        limit: NonZeroU32::new(limit),
        websockets,
    };
    let overloaded = |holders: [(u64, u16, u32, usize); 3]| overloaded(&holders.map(holder), 1.3);
    assert_eq!(overloaded([(1, 1, 10, 10), (2, 1, 0, 100), (3, 1, 0, 100)]), []);
    assert_eq!(overloaded([(1, 1, 10, 0), (2, 1, 0, 200), (3, 1, 0, 10)]), [(2, 100)]);
    assert_eq!(overloaded([(1, 1, 10, 10), (2, 1, 10, 10), (3, 1, 10, 0)]), [], "below the least surplus");
    assert_eq!(overloaded([(1, 1, 10, 30), (2, 1, 10, 0), (3, 1, 10, 0)]), [(1, 20)]);
    assert_eq!(overloaded([(1, 1, 10, 50), (2, 1, 10, 10), (3, 1, 10, 10)]), [], "there is no other place");
}

#[tokio::test(start_paused = true)]
async fn websockets_at_a_backup_move_when_another_endpoint_is_back() {
    let endpoints = |weight: u8| {
        format!("{{ address: '{ONE}', weight: {weight} }}, {{ address: '127.0.0.1:2', backup: true }}")
    };
    let mut world = TestHarness::new(&file(&endpoints(0), ""));
    let mut sockets = world.open("a", 20);
    assert_eq!(held(&sockets), [(2, 20)].into());
    world.reload(&file(&endpoints(1), ""));
    let mut rebalances = Rebalances::new(Arc::clone(&world.tunnels));
    for _ in 0..2 * TEN_MINUTES {
        pass(&world, &mut rebalances, 1).await;
        let left = leave(&mut sockets);
        sockets.extend(world.open("a", left));
    }
    assert_eq!(held(&sockets), [(1, 20)].into());
    pass(&world, &mut rebalances, TEN_MINUTES).await;
    assert_eq!(leave(&mut sockets), 0);
}
