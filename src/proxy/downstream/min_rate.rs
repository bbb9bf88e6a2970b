//! Minimum rate of a client's transfer. A transfer has time credit: its grace at first, plus the time that
//! the rate allows for each byte, up to a minute. Only time spent waiting for the client is charged, not time
//! without data to send or without reading.

use super::lazy_timer::LazyTimer;
use crate::snapshot::MinRate;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum credit of a fast transfer. Longer idle times exceed the default timeouts anyway.
const MOST_CREDIT: Duration = Duration::from_secs(60);

/// The pace of one transfer.
#[derive(Debug)]
pub(in crate::proxy) struct Pace {
    rate: MinRate,
    credit: Duration,
    /// Since when the gateway waits for the client.
    since: Option<Instant>,
    timer: LazyTimer,
}

impl Pace {
    pub(in crate::proxy) fn new(rate: MinRate) -> Self {
        Self { rate, credit: rate.grace, since: None, timer: LazyTimer::default() }
    }

    /// Called while waiting for the client. Ready when the transfer is too slow.
    pub(in crate::proxy) fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll(since + self.credit, cx)
    }

    /// Ends the wait without a transfer.
    pub(in crate::proxy) fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
    }

    /// Records transferred bytes.
    pub(in crate::proxy) fn moved(&mut self, bytes: usize) {
        self.pause();
        if bytes > 0 {
            let most = MOST_CREDIT.max(self.rate.grace);
            self.credit = self.credit.saturating_add(self.rate.time_of(bytes)).min(most);
        }
    }

    /// The time limit for a chunk whose progress is visible only when it is complete.
    pub(in crate::proxy) fn limit(&self, bytes: usize) -> Duration {
        self.credit.saturating_add(self.rate.time_of(bytes))
    }

    /// Records such a chunk and its duration.
    pub(in crate::proxy) fn took(&mut self, bytes: usize, time: Duration) {
        self.credit = self.limit(bytes).saturating_sub(time).min(MOST_CREDIT.max(self.rate.grace));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{sleep, timeout};

    fn pace(rate: u64, grace: u64) -> Pace {
        Pace::new(MinRate::new(rate, Duration::from_secs(grace)).unwrap())
    }

    async fn slow_after(pace: &mut Pace) -> u64 {
        let start = Instant::now();
        poll_fn(|cx| pace.poll_slow(cx)).await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_has_its_grace() {
        assert_eq!(slow_after(&mut pace(100, 20)).await, 20);
        assert_eq!(slow_after(&mut pace(100, 0)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_buy_time_up_to_a_minute() {
        let mut slow = pace(100, 20);
        slow.moved(1000);
        assert_eq!(slow_after(&mut slow).await, 30);
        let mut fast = pace(100, 20);
        fast.moved(1 << 30);
        assert_eq!(slow_after(&mut fast).await, 60);
        let mut patient = pace(100, 90);
        patient.moved(1 << 30);
        assert_eq!(slow_after(&mut patient).await, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_cut_and_the_rate_itself_is_not() {
        let second = Duration::from_secs(1);
        let mut trickle = pace(100, 20);
        let mut seconds = 0;
        while timeout(second, poll_fn(|cx| trickle.poll_slow(cx))).await.is_err() {
            trickle.moved(1);
            seconds += 1;
        }
        assert!((20..22).contains(&seconds), "{seconds}");
        let mut steady = pace(100, 20);
        for _ in 0..1000 {
            assert!(timeout(second, poll_fn(|cx| steady.poll_slow(cx))).await.is_err());
            steady.moved(100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts() {
        let mut pace = pace(100, 20);
        assert!(timeout(Duration::from_secs(5), poll_fn(|cx| pace.poll_slow(cx))).await.is_err());
        pace.pause();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(slow_after(&mut pace).await, 15);
    }

    #[test]
    fn a_piece_whose_progress_is_not_visible_has_its_time() {
        let mut pace = pace(100, 20);
        assert_eq!(pace.limit(1000), Duration::from_secs(30));
        pace.took(1000, Duration::from_secs(25));
        assert_eq!(pace.limit(0), Duration::from_secs(5));
    }
}
