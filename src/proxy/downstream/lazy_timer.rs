//! A timer whose deadline moves, with the precision of the runtime: a minimum rate counts each wait, and the 100 ms of
//! a worker's timers would allow a slower transfer. It uses the runtime's timer wheel only when it fires: a timer
//! that fires early is set again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer without a deadline of its own.
#[derive(Debug, Default)]
pub(in crate::proxy) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when `deadline` has passed; until then the task is woken at the deadline or before.
    pub(in crate::proxy) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_either_way() {
        let (mut timer, start) = (LazyTimer::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(10), cx))).await.is_pending());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(60), cx))).await.is_pending());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(5), cx))).await.is_pending());
        poll_fn(|cx| timer.poll(after(20), cx)).await;
        assert_eq!(Instant::now(), after(20));
        poll_fn(|cx| timer.poll(after(15), cx)).await;
        assert_eq!(Instant::now(), after(20), "a deadline that has passed waits for nothing");
    }
}
