//! Tests of the flood limit: floods end, and ordinary connections continue.

use super::*;
use std::time::Duration;

const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, length: u32) -> Frame {
    Frame { kind, flags, length, stream: 1, code: 0 }
}

fn head(stream: u32, flags: u8) -> Frame {
    Frame { kind: HEADERS, flags, length: 10, stream, code: 0 }
}

fn cancel(stream: u32) -> Frame {
    Frame { kind: RST_STREAM, flags: 0, length: 4, stream, code: 0 }
}

/// The number of requests, each built by `make`, that pass before the limit.
fn requests(budget: &mut Budget, most: u32, make: impl Fn(&mut Budget, u32) -> Result<(), Empty>) -> u32 {
    let first = budget.newest | 1;
    let made = (0..most).take_while(|at| make(budget, first + 2 + 2 * at).is_ok()).count();
    u32::try_from(made).unwrap_or(u32::MAX)
}

/// A request that is cancelled at once.
fn rapid(budget: &mut Budget, stream: u32) -> Result<(), Empty> {
    budget.on_frame_received(head(stream, 5))?;
    budget.on_frame_received(cancel(stream))
}

/// The number of frames that pass at once, at most `most`.
fn passed(budget: &mut Budget, frame: Frame, most: usize) -> usize {
    (0..most).take_while(|_| budget.on_frame_received(frame).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn every_flood_ends() {
    for (kind, flags, length) in [(PING, 0, 8), (SETTINGS, 0, 0), (2, 0, 5), (WINDOW_UPDATE, 0, 4)] {
        let mut budget = Budget::full();
        assert!(passed(&mut budget, frame(kind, flags, length), 10_000) <= 2_000, "type {kind}");
    }
    let mut budget = Budget::full();
    assert!(passed(&mut budget, frame(DATA, 0, 0), 10_000) <= 500);
}

#[tokio::test(start_paused = true)]
async fn a_ping_now_and_then_goes_on_for_ever() {
    let mut budget = Budget::full();
    for _ in 0..10_000 {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(budget.on_frame_received(frame(PING, 0, 8)), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_beside_every_message_goes_on_for_ever() {
    let mut budget = Budget::full();
    for _ in 0..100_000 {
        budget.on_frame_sent(frame(DATA, 0, 20));
        assert_eq!(budget.on_frame_received(frame(PING, 0, 8)), Ok(()));
        assert_eq!(budget.on_frame_received(frame(WINDOW_UPDATE, 0, 4)), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_all_cancelled_end_it() {
    let mut budget = Budget::full();
    // However long the quiet period before.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!((400..=500).contains(&requests(&mut budget, 10_000, rapid)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(requests(&mut budget, 10_000, rapid) < 30);
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_pay_for_no_cancelled_request() {
    let mut budget = Budget::full();
    let made = requests(&mut budget, 10_000, |budget, stream| {
        budget.on_frame_received(head(stream, 4))?;
        for _ in 0..5 {
            budget.on_frame_received(Frame { kind: DATA, flags: 0, length: 1, stream, code: 0 })?;
        }
        budget.on_frame_received(head(stream, 5))?;
        budget.on_frame_received(cancel(stream))
    });
    assert!(made <= 500, "{made}");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_requests_may_be_cancelled() {
    let mut budget = Budget::full();
    let made = requests(&mut budget, 10_000, |budget, stream| {
        budget.on_frame_received(head(stream, 5))?;
        if stream % 4 == 1 { Ok(()) } else { budget.on_frame_received(cancel(stream)) }
    });
    assert_eq!(made, 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_now_and_then_goes_on_for_ever() {
    let mut budget = Budget::full();
    for _ in 0..10_000 {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(requests(&mut budget, 1, rapid), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_have_begun_may_all_be_cancelled() {
    let mut budget = Budget::full();
    let made = requests(&mut budget, 10_000, |budget, stream| {
        budget.on_frame_received(head(stream, 5))?;
        budget.on_frame_sent(head(stream, 4));
        budget.on_frame_received(cancel(stream))
    });
    assert_eq!(made, 10_000);
}
