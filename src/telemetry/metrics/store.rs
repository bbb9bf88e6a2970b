//! Metrics of a store of shared limits: its state, and its requests by outcome.

use super::exposition::Exposition;
use super::histogram::Histogram;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The outcome of one request to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreOutcome {
    /// The store responded in time.
    Ok,
    /// The store did not respond within its deadline.
    TimedOut,
    /// The connection failed, or the store responded with an error.
    Failed,
    /// The store was unavailable and was not asked.
    Skipped,
}

/// The outcomes with their labels, in the order of the enum.
const OUTCOMES: [(StoreOutcome, &str); 4] = [
    (StoreOutcome::Ok, "ok"),
    (StoreOutcome::TimedOut, "timeout"),
    (StoreOutcome::Failed, "error"),
    (StoreOutcome::Skipped, "unavailable"),
];

/// The series of one store, as long as it is in use.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    store: Box<str>,
    /// The instance that a reload has put in the place of the earlier ones, which may still serve requests.
    instance: AtomicU64,
    is_up: AtomicBool,
    outcomes: [AtomicU64; OUTCOMES.len()],
    duration: Histogram,
}

impl StoreMetrics {
    /// The existing or new series of `store`.
    pub(crate) fn of(store: &str) -> Arc<Self> {
        super::global().store(store)
    }

    pub(super) fn new(store: &str) -> Self {
        Self {
            store: store.into(),
            instance: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            outcomes: Default::default(),
            duration: Histogram::new(&names::STORE_DURATION),
        }
    }

    /// Begins with another instance of the store, which is unavailable at first. Returns its number.
    pub(crate) fn begin(&self) -> u64 {
        self.is_up.store(false, Relaxed);
        self.instance.fetch_add(1, Relaxed) + 1
    }

    /// Sets whether the store is available, if this is its last instance.
    pub(crate) fn set_up(&self, instance: u64, is_up: bool) {
        if self.instance.load(Relaxed) == instance {
            self.is_up.store(is_up, Relaxed);
        }
    }

    /// Counts a request.
    pub(crate) fn requested(&self, outcome: StoreOutcome) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a request with a response.
    pub(crate) fn responded(&self, after: Duration) {
        self.requested(StoreOutcome::Ok);
        self.duration.observe(after.as_secs_f64());
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        scrape.gauge(&names::STORE_UP, &[&self.store], f64::from(u8::from(self.is_up.load(Relaxed))));
        for ((_, label), count) in OUTCOMES.iter().zip(&self.outcomes) {
            scrape.counter(&names::STORE_REQUESTS, &[&self.store, label], count.load(Relaxed) as f64);
        }
        scrape.histogram(&names::STORE_DURATION, &[&self.store], &self.duration);
    }
}
