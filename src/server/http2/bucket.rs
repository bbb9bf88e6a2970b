//! Token bucket that is refilled by time and by progress, so that a limit distinguishes a flood from a
//! long-lived connection. Callers define the costs.

use moongate_sdk::{TokenBucket, TokenRate, nanoseconds};
use std::time::Duration;
use tokio::time::Instant;

/// More was spent than available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Empty;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: TokenRate,
    spent: TokenBucket,
    /// Moments count from here.
    start: Instant,
    /// The moment of the last look at the clock.
    seen: u64,
}

impl Bucket {
    /// Creates a full bucket with this refill time per token.
    pub(super) fn full(full: u32, each: Duration) -> Self {
        let rate = TokenRate::every(each, full);
        Self { rate, spent: TokenBucket::default(), start: Instant::now(), seen: 0 }
    }

    /// Adds tokens, besides those of time.
    pub(super) fn give(&mut self, points: u32) {
        self.spent.give_back(self.rate.cost(points.into()));
    }

    /// Takes them, when they are there.
    ///
    /// # Errors
    /// When there are fewer.
    pub(super) fn take(&mut self, points: u32) -> Result<(), Empty> {
        self.seen = nanoseconds(self.start.elapsed());
        self.take_seen(points)
    }

    /// Takes tokens without reading the clock while enough are available: for frequent frames. After a quiet
    /// period, up to twice the bound may pass at once.
    ///
    /// # Errors
    /// When fewer were available.
    pub(super) fn take_often(&mut self, points: u32) -> Result<(), Empty> {
        self.take_seen(points).or_else(|Empty| self.take(points))
    }

    /// Takes them from what there was at the last look at the clock.
    fn take_seen(&mut self, points: u32) -> Result<(), Empty> {
        self.spent.try_take(&self.rate, self.rate.cost(points.into()), self.seen).map_err(|_| Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const EACH: Duration = Duration::from_millis(30);

    fn taken(bucket: &mut Bucket) -> usize {
        (0..1_000).take_while(|_| bucket.take(1).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_comes_back_with_time_and_never_more() {
        let mut bucket = Bucket::full(32, EACH);
        assert_eq!(taken(&mut bucket), 32);
        advance(EACH * 10).await;
        assert_eq!(taken(&mut bucket), 10);
        advance(EACH * 1_000).await;
        assert_eq!(taken(&mut bucket), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_was_full_for_long_gives_its_bound_once() {
        let mut bucket = Bucket::full(32, EACH);
        advance(EACH * 1_000).await;
        assert_eq!(taken(&mut bucket), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_no_faster_than_it_comes_back_goes_on_for_ever() {
        let mut bucket = Bucket::full(32, EACH);
        for _ in 0..1_000 {
            assert_eq!(bucket.take(1), Ok(()));
            advance(EACH).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn asking_again_and_again_loses_no_time() {
        let mut bucket = Bucket::full(32, EACH);
        assert_eq!(taken(&mut bucket), 32);
        let mut refilled = 0;
        for _ in 0..90 {
            advance(Duration::from_millis(1)).await;
            refilled += taken(&mut bucket);
        }
        assert_eq!(refilled, 3);
    }
}
