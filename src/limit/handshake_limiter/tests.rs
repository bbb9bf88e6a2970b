#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::HandshakeRate;
use crate::limit::Stores;
use proptest::prelude::*;

const MILLI: Duration = Duration::from_millis(1);

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// The start times of handshakes that arrive at these times, in milliseconds; `None` for rejected ones.
fn turns(pacer: &HandshakeLimiter, arrivals: &[u64]) -> Vec<Option<f64>> {
    let start = Instant::now();
    let turn = |at: &u64| {
        let wait = pacer.take(start + MILLI * u32::try_from(*at).unwrap()).ok()?;
        Some(*at as f64 + wait.as_secs_f64() * 1000.0)
    };
    arrivals.iter().map(turn).collect()
}

#[test]
fn a_tenth_comes_at_once_a_second_s_worth_waits_and_the_rest_is_refused() {
    let pacer = HandshakeLimiter::new(rate("50/s"));
    let turns = turns(&pacer, &[0; 200]);
    let let_in: Vec<f64> = turns.iter().copied().map_while(|turn| turn).collect();
    assert_eq!(let_in.len(), 5 + 50);
    assert!(turns[let_in.len()..].iter().all(Option::is_none), "who comes later is not let in earlier");
    assert!(let_in[..5].iter().all(|at| *at == 0.0));
    assert!(let_in[5..].iter().zip(1..).all(|(at, n)| (at - f64::from(n) * 20.0).abs() < 0.01), "{let_in:?}");
}

#[test]
fn below_the_rate_no_handshake_waits() {
    let pacer = HandshakeLimiter::new(rate("50/s"));
    let arrivals: Vec<u64> = (0..500).map(|n| n * 20).collect();
    assert!(turns(&pacer, &arrivals).iter().zip(&arrivals).all(|(turn, at)| *turn == Some(*at as f64)));
}

#[test]
fn a_slow_rate_lets_one_in_at_a_time() {
    let pacer = HandshakeLimiter::new(rate("10/h"));
    let hour = 3_600_000;
    assert_eq!(
        turns(&pacer, &[0, 1, 358_000, 359_000, 359_500]),
        [Some(0.0), None, None, Some(360_000.0), None]
    );
    assert!(pacer.take(Instant::now() + MILLI * hour).is_ok());
}

#[test]
fn an_idle_hour_saves_up_no_more_than_the_burst() {
    let pacer = HandshakeLimiter::new(rate("50/s"));
    let mut arrivals = vec![0; 3];
    arrivals.extend([3_600_000; 200]);
    assert_eq!(turns(&pacer, &arrivals)[3..].iter().flatten().count(), 5 + 50);
}

#[test]
fn a_turn_given_back_goes_to_somebody_else() {
    let (pacer, now) = (HandshakeLimiter::new(rate("2/h")), Instant::now());
    assert_eq!(pacer.take(now), Ok(Duration::ZERO));
    assert!(pacer.take(now).is_err());
    pacer.give_back();
    assert_eq!(pacer.take(now), Ok(Duration::ZERO));
    assert!(pacer.take(now).is_err(), "one went, one came");
}

#[test]
fn retry_after_is_spread_and_not_before_there_is_capacity() {
    let drawn = |queue_full: QueueFull| {
        let mut all: Vec<_> = (0..200).map(|_| queue_full.retry_after()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(drawn(QueueFull(MILLI * 20)), [1, 2, 3, 4, 5]);
    let (pacer, now) = (HandshakeLimiter::new(rate("10/h")), Instant::now());
    pacer.take(now).unwrap();
    assert_eq!(drawn(pacer.take(now).unwrap_err()), [359, 360, 361, 362, 363]);
}

#[test]
fn a_reload_keeps_the_pacer_of_an_unchanged_rate() {
    let written = |text| {
        let place = moongate_config::Place::nowhere();
        HandshakeRate::Local(Some(moongate_config::Placed { value: rate(text), place }))
    };
    let carry = |written: Option<HandshakeRate>, prior: Option<&Arc<HandshakeLimiter>>| {
        Stores::default().handshake_limiter(written.as_ref(), "route/a", prior).unwrap()
    };
    let first = carry(Some(written("50/s")), None).unwrap();
    assert!(Arc::ptr_eq(&first, &carry(Some(written("50/s")), Some(&first)).unwrap()));
    assert!(!Arc::ptr_eq(&first, &carry(Some(written("51/s")), Some(&first)).unwrap()));
    assert!(carry(None, Some(&first)).is_none());
    assert!(carry(Some(HandshakeRate::Local(None)), Some(&first)).is_none());
}

#[test]
fn workers_that_ask_together_share_one_rate() {
    let (pacer, now) = (HandshakeLimiter::new(rate("1000/s")), Instant::now());
    let let_in: usize = std::thread::scope(|scope| {
        let worker = || (0..1000).filter(|_| pacer.take(now).is_ok()).count();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(let_in, 100 + 1000);
}

/// The limit on tokio's clock: every handshake sleeps until its turn.
#[tokio::test(start_paused = true)]
async fn waiting_handshakes_start_one_by_one_within_a_second() {
    let pacer = Arc::new(HandshakeLimiter::new(rate("50/s")));
    let start = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let pacer = Arc::clone(&pacer);
        waiting.spawn(async move {
            tokio::time::sleep(pacer.take(Instant::now()).ok()?).await;
            Some(start.elapsed())
        });
    }
    let out: Vec<_> = waiting.join_all().await.into_iter().flatten().collect();
    assert_eq!(out.len(), 55);
    for slot in 0..10 {
        let within = |at: &&Duration| (slot * 100..(slot + 1) * 100).contains(&at.as_millis());
        let most = if slot == 0 { 5 + 5 } else { 6 };
        assert!(out.iter().filter(within).count() <= most, "slot {slot}");
    }
    assert!(out.iter().all(|at| *at <= LONGEST_WAIT + MILLI * 2), "a sleep ends at a whole millisecond");
}

proptest! {
    #[test]
    fn no_window_of_time_lets_in_more_than_its_rate_and_a_burst(
        count in 1_u32..400,
        gaps in prop::collection::vec(0_u64..60, 1..400),
    ) {
        let pacer = HandshakeLimiter::new(Rate::per_second(count.try_into().unwrap()));
        let mut at = 0;
        let arrivals: Vec<u64> = gaps.iter().map(|gap| { at += gap; at }).collect();
        let turns = turns(&pacer, &arrivals);
        for (turn, at) in turns.iter().zip(&arrivals) {
            let wait = turn.map(|turn| turn - *at as f64);
            prop_assert!(wait.is_none_or(|wait| (0.0..=1000.0).contains(&wait)), "{wait:?}");
        }
        let let_in: Vec<f64> = turns.into_iter().flatten().collect();
        prop_assert!(let_in.is_sorted(), "first come, first served");
        let burst = f64::from((count / 10).max(1));
        for (n, from) in let_in.iter().enumerate() {
            for (m, to) in let_in.iter().enumerate().skip(n) {
                let most = (to - from) / 1000.0 * f64::from(count) + burst + 0.01;
                prop_assert!((m - n + 1) as f64 <= most + 1e-3, "{} between {from} and {to}", m - n + 1);
            }
        }
    }
}

#[test]
fn a_longer_allowed_wait_keeps_the_order_and_the_rate() {
    let pacer = HandshakeLimiter::new(rate("50/s"));
    let now = Instant::now();
    let longest = Duration::from_secs(3);
    let waits: Vec<_> = (0..200).map_while(|_| pacer.take_within(now, longest).ok()).collect();
    assert_eq!(waits.len(), 5 + 150);
    assert!(waits.is_sorted());
    // A client that arrives now waits at most a second.
    let QueueFull(until) = pacer.take(now).unwrap_err();
    assert!(until > Duration::from_secs(1));
    pacer.give_back();
    assert_eq!(pacer.take_within(now, longest).unwrap(), longest);
}

#[test]
fn what_another_process_owed_to_a_slower_rate_is_bounded_by_a_full_queue() {
    let now = Instant::now();
    let slow = HandshakeLimiter::new(rate("1/h"));
    assert_eq!(slow.take(now), Ok(Duration::ZERO));
    assert!(slow.owed(now) > Duration::from_secs(3500));
    let fast = HandshakeLimiter::new(rate("100/s"));
    fast.charge(slow.owed(now), now);
    assert!(fast.take(now).is_err());
    assert!(fast.take(now + Duration::from_secs(2)).is_ok());
}
