//! Tests of the registry and the pace of drains.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::tunnel::CloseOrder;
use std::sync::Mutex as StdMutex;
use std::task::Wake;

const WINDOW: Duration = Duration::from_secs(10);

/// Records when it is woken.
struct Clock {
    began: Instant,
    woken: StdMutex<Option<Duration>>,
}

impl Wake for Clock {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = Some(self.began.elapsed());
    }
}

fn tunnel_key(endpoint: u64, route: &str, route_version: u64) -> TunnelKey {
    TunnelKey {
        endpoint,
        route: route.into(),
        route_version,
        generation: 1,
        listener: "".into(),
        protocol: None,
        origin: None,
        drain_part: None,
        connection: None,
    }
}

fn join(registry: &Arc<Registry>, endpoint: u64, route: &str) -> (Membership, Arc<Clock>) {
    let membership = registry.join(tunnel_key(endpoint, route, 1));
    let clock = Arc::new(Clock { began: Instant::now(), woken: StdMutex::new(None) });
    membership.listen(&Waker::from(clock.clone()));
    (membership, clock)
}

#[tokio::test(start_paused = true)]
async fn the_curve_of_a_drain_is_flat() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> = (0..5_000).map(|_| join(&registry, 1, "a")).collect();
    assert_eq!(registry.drain(Filter::All, WINDOW, Cause::Shutdown, None).await, 5_000);
    let mut slots = [0; 100];
    for (membership, clock) in &members {
        assert_eq!(membership.order(), Some(CloseOrder::Drain(Cause::Shutdown)));
        let moment = clock.woken.lock().unwrap().unwrap();
        slots[(moment.as_millis() as usize / 100).min(99)] += 1;
    }
    let share = 5_000 / slots.len();
    assert!(slots.iter().all(|slot| *slot <= 2 * share && *slot > 0), "{slots:?}");
}

#[tokio::test(start_paused = true)]
async fn only_selected_tunnels_are_drained() {
    let registry = Arc::<Registry>::default();
    let (one, _) = join(&registry, 1, "a");
    let (two, _) = join(&registry, 2, "a");
    let (three, _) = join(&registry, 2, "b");
    assert_eq!(registry.drain(Filter::Endpoint(1), WINDOW, Cause::Endpoint, None).await, 1);
    assert_eq!(
        [one.order(), two.order(), three.order()],
        [Some(CloseOrder::Drain(Cause::Endpoint)), None, None]
    );
    assert_eq!(registry.drain(Filter::Route("b".into()), WINDOW, Cause::Route, None).await, 1);
    assert_eq!([two.order(), three.order()], [None, Some(CloseOrder::Drain(Cause::Route))]);
    assert_eq!(registry.drain(Filter::All, WINDOW, Cause::Shutdown, None).await, 1);
    assert_eq!(one.order(), Some(CloseOrder::Drain(Cause::Endpoint)));
}

#[tokio::test(start_paused = true)]
async fn the_policy_of_one_route_spares_another_at_the_same_endpoint() {
    let registry = Arc::<Registry>::default();
    let [meant, other, elsewhere] =
        [(1, "a"), (1, "b"), (2, "a")].map(|(endpoint, route)| join(&registry, endpoint, route).0);
    let filter = Filter::RouteAt("a".into(), 1);
    assert_eq!(registry.drain(filter, WINDOW, Cause::Unhealthy, None).await, 1);
    assert_eq!(
        [meant.order(), other.order(), elsewhere.order()],
        [Some(CloseOrder::Drain(Cause::Unhealthy)), None, None]
    );
}

#[tokio::test(start_paused = true)]
async fn the_current_edition_of_a_route_is_spared() {
    let registry = Arc::<Registry>::default();
    let [old, new] = [1, 2].map(|route_version| registry.join(tunnel_key(1, "a", route_version)));
    let other = registry.join(tunnel_key(1, "b", 1));
    assert_eq!(registry.drain(Filter::Outdated("a".into(), 2), WINDOW, Cause::Route, None).await, 1);
    assert_eq!(
        [old.order(), new.order(), other.order()],
        [Some(CloseOrder::Drain(Cause::Route)), None, None]
    );
}

#[tokio::test(start_paused = true)]
async fn thinning_asks_as_many_as_it_should_at_an_even_pace() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> = (0..1_000).map(|_| join(&registry, 1, "a")).collect();
    let asked = Arc::<AtomicUsize>::default();
    registry.drain_some(Filter::Endpoint(1), 400, WINDOW, Cause::Rebalance, asked.clone()).await;
    assert_eq!(asked.load(Relaxed), 400);
    let mut slots = [0; 10];
    for (membership, clock) in &members {
        let woken = *clock.woken.lock().unwrap();
        assert_eq!(membership.order().is_some(), woken.is_some());
        if let Some(moment) = woken {
            slots[(moment.as_secs() as usize).min(9)] += 1;
        }
    }
    assert!(slots.iter().all(|slot| (30..=50).contains(slot)), "{slots:?}");
    assert_eq!(registry.tally(|seen| Some(seen.endpoint)), [(1, 600)].into());
}

#[tokio::test(start_paused = true)]
async fn one_that_ended_before_was_not_drained() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> = (0..10).map(|_| registry.join(tunnel_key(1, "a", 1))).collect();
    let asked = Arc::<AtomicUsize>::default();
    let thinning = registry.drain_some(Filter::All, 10, WINDOW, Cause::Rebalance, asked.clone());
    drop(members);
    thinning.await;
    assert_eq!(asked.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_moved_to_another_endpoint_is_not_drained_for_the_first_one() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> = (0..10).map(|_| registry.join(tunnel_key(1, "a", 1))).collect();
    let drain = tokio::spawn(registry.drain(Filter::RouteAt("a".into(), 1), WINDOW, Cause::Endpoint, None));
    tokio::task::yield_now().await;
    members.iter().for_each(|member| member.moved(2));
    assert!(drain.await.unwrap() <= 1);
    assert!(members.iter().filter(|member| member.order().is_some()).count() <= 1);
}

#[test]
fn open_tunnels_are_counted_by_key() {
    let registry = Arc::<Registry>::default();
    let _early = [registry.join(tunnel_key(1, "a", 1)), registry.join(tunnel_key(2, "a", 1))];
    let mark = registry.arrivals();
    let _late = registry.join(tunnel_key(2, "b", 1));
    let tally = registry.tally(|seen| Some((seen.endpoint, seen.join_number >= mark)));
    assert_eq!(tally, [((1, false), 1), ((2, false), 1), ((2, true), 1)].into());
    assert_eq!(registry.tally(|seen| (**seen.route == *"b").then_some(())), [((), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_during_the_window_is_drained_at_its_end() {
    let registry = Arc::<Registry>::default();
    let _first = join(&registry, 1, "a");
    let drain = tokio::spawn(registry.drain(Filter::All, WINDOW, Cause::Shutdown, None));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (late, _) = join(&registry, 1, "a");
    assert_eq!(drain.await.unwrap(), 2);
    assert_eq!(late.order(), Some(CloseOrder::Drain(Cause::Shutdown)));
}

#[tokio::test(start_paused = true)]
async fn the_tunnels_of_a_session_leave_together_and_sessions_one_after_the_other() {
    let registry = Arc::<Registry>::default();
    let tied = |part: u32| {
        let member = registry.join(TunnelKey { drain_part: Some(part), ..tunnel_key(1, "a", 1) });
        let clock = Arc::new(Clock { began: Instant::now(), woken: StdMutex::new(None) });
        member.listen(&Waker::from(clock.clone()));
        (member, clock)
    };
    let woken = |clock: &Clock| clock.woken.lock().unwrap().unwrap().as_millis();
    let quarters: Vec<_> = (0..40_u32).map(|n| tied((n % 4) << 30)).collect();
    let free: Vec<_> = (0..40).map(|_| join(&registry, 1, "a")).collect();
    // A quarter of the sessions' window has passed.
    let since = Instant::now().checked_sub(WINDOW / 4).unwrap();
    let drain = tokio::spawn(registry.drain(Filter::All, WINDOW, Cause::Endpoint, Some(since)));
    // A tunnel of the last session joins later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (_late, late_clock) = tied(3 << 30);
    assert_eq!(drain.await.unwrap(), 81);
    for (n, (_, clock)) in quarters.iter().enumerate() {
        let expected = [0, 10, 2_510, 5_010][n % 4];
        assert!(woken(clock).abs_diff(expected) <= 10, "{n}: {}", woken(clock));
    }
    assert!(woken(&late_clock).abs_diff(2_010) <= 10, "{}", woken(&late_clock));
    let mut slots = [0; 4];
    free.iter().for_each(|(_, clock)| slots[(woken(clock) as usize / 2_500).min(3)] += 1);
    assert_eq!(slots, [10; 4], "those of no session are spread evenly");
}

#[tokio::test(start_paused = true)]
async fn at_a_shutdown_sessions_are_spread_as_all_are() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> =
        (0..100).map(|_| registry.join(TunnelKey { drain_part: Some(0), ..tunnel_key(1, "a", 1) })).collect();
    let drain = tokio::spawn(registry.drain(Filter::All, WINDOW, Cause::Shutdown, None));
    tokio::time::sleep(WINDOW / 2).await;
    let asked = members.iter().filter(|member| member.order().is_some()).count();
    assert!((49..=51).contains(&asked), "{asked}");
    drain.await.unwrap();
}

#[tokio::test]
async fn the_last_to_leave_is_noticed() {
    let registry = Arc::<Registry>::default();
    registry.wait_empty().await;
    let members: Vec<_> = (0..100).map(|_| registry.join(tunnel_key(1, "a", 1))).collect();
    assert_eq!(registry.len(), 100);
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.wait_empty().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(members);
    waiting.await.unwrap();
    assert!(registry.is_empty());
}

#[test]
fn a_place_is_used_again() {
    let registry = Arc::<Registry>::default();
    for _ in 0..1_000 {
        drop(registry.join(tunnel_key(1, "a", 1)));
    }
    assert!(registry.shards.iter().all(|shard| shard.lock().members.len() <= 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_during_a_departure_that_fails_takes_effect() {
    let registry = Arc::<Registry>::default();
    let (member, _) = join(&registry, 1, "a");
    let (order, departures) = std::sync::mpsc::channel();
    registry.depart(&registry.unasked(), &order);
    drop(order);
    drop(member.take_departure());
    assert!(departures.recv().is_err(), "the one who waits for the departure goes on");
    let asked = registry.drain(Filter::All, Duration::ZERO, Cause::Shutdown, None).await;
    assert_eq!((asked, member.order()), (1, None), "the tunnel does not know yet that it stays");
    member.stay();
    assert_eq!(member.order(), Some(CloseOrder::Drain(Cause::Shutdown)));
    assert!(registry.unasked().is_empty());
}

#[test]
fn a_close_during_a_departure_that_fails_takes_effect() {
    let registry = Arc::<Registry>::default();
    let (one, _) = join(&registry, 1, "a");
    let (two, _) = join(&registry, 1, "a");
    let (order, departures) = std::sync::mpsc::channel();
    let ids = registry.unasked();
    registry.depart(&ids, &order);
    drop(order);
    assert!(one.is_departing() && two.is_departing());
    registry.close(ids[0], OperatorClose { code: 4000, reason: "later".into() }).unwrap();
    for member in [&one, &two] {
        assert_eq!(member.order(), None, "a tunnel that departs is not closed");
        drop(member.take_departure());
        member.stay();
    }
    assert!(departures.recv().is_err());
    assert_eq!([one.order(), two.order()], [Some(CloseOrder::Operator), None]);
    assert_eq!(one.take_close().unwrap().code, 4000);
}
