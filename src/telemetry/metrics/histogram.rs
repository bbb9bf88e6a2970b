//! Histogram for the hot path: two relaxed atomic adds per observation, small enough for thousands of routes.
//!
//! The count is computed as the sum of the buckets, so a scrape is always consistent. Only an observation with a trace
//! takes a lock, which is never waited for.

use super::names::{Family, Shape};
use crate::telemetry::TraceId;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// The sum is kept in millionths: an atomic add instead of a compare-and-swap loop over floats.
const SCALE: f64 = 1e6;

/// Observations of one series.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One count per bound, and one for values above the last bound.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    created: SystemTime,
    /// The last exemplar of each count; allocated by the first one.
    exemplars: OnceLock<Box<[Mutex<Option<Exemplar>>]>>,
}

/// A trace that led to an observation (OpenMetrics 1.0, "Exemplars").
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    /// The trace.
    pub(super) trace: TraceId,
    /// The observed value.
    pub(super) value: f64,
    /// The time of the observation.
    pub(super) at: SystemTime,
}

/// A histogram's state at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ObservedValue {
    /// Upper bounds, and the number of observations up to each.
    pub buckets: Vec<(f64, u64)>,
    /// The number of observations.
    pub count: u64,
    /// The sum of the observations.
    pub sum: f64,
    /// The time since which observations count; none if it is unknown.
    pub created: Option<SystemTime>,
    /// The last exemplar of each bucket, and of values above the last bound; empty without any.
    pub exemplars: Vec<Option<Exemplar>>,
}

impl Histogram {
    /// An empty histogram with the bounds of `family`; without bounds if the family is not a histogram.
    pub(super) fn new(family: &Family) -> Self {
        let bounds = match family.shape {
            Shape::Histogram(bounds) => bounds,
            Shape::Counter | Shape::Gauge | Shape::Info => &[],
        };
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            created: SystemTime::now(),
            exemplars: OnceLock::new(),
        }
    }

    /// Observes one value, in the unit of the family.
    pub(super) fn observe(&self, value: f64) {
        self.add(value);
    }

    /// As [`Histogram::observe`], with the trace as the exemplar of the value's bucket.
    ///
    /// Only a trace that is recorded is worth an exemplar. While another thread reads or writes the bucket's exemplar,
    /// that one stays.
    pub(super) fn observe_with_trace(&self, value: f64, trace: TraceId) {
        let bucket = self.add(value);
        let exemplars = self.exemplars.get_or_init(|| self.counts.iter().map(|_| Mutex::default()).collect());
        if let Some(mut last) = exemplars[bucket].try_lock() {
            *last = Some(Exemplar { trace, value, at: SystemTime::now() });
        }
    }

    /// Counts the value, and returns the position of its count.
    fn add(&self, value: f64) -> usize {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        // `as` saturates: a negative value or NaN adds nothing.
        self.sum.fetch_add((value * SCALE) as u64, Relaxed);
        bucket
    }

    pub(super) fn observed(&self) -> ObservedValue {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (position, bucket) in self.counts.iter().enumerate() {
            count += bucket.load(Relaxed);
            if let Some(bound) = self.bounds.get(position) {
                buckets.push((*bound, count));
            }
        }
        let exemplars = self.exemplars.get().into_iter().flatten().map(|last| *last.lock()).collect();
        let sum = self.sum.load(Relaxed) as f64 / SCALE;
        ObservedValue { buckets, count, sum, created: Some(self.created), exemplars }
    }
}

impl ObservedValue {
    /// Adds the observations of another histogram with the same bounds.
    pub(crate) fn add(&mut self, more: Self) {
        if self.buckets.is_empty() {
            *self = more;
            return;
        }
        self.buckets.iter_mut().zip(more.buckets).for_each(|((_, sum), (_, more))| *sum += more);
        self.count += more.count;
        self.sum += more.sum;
    }

    /// The observations since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |at: usize| earlier.buckets.get(at).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().enumerate();
        Self {
            buckets: buckets.map(|(at, (bound, count))| (*bound, count.saturating_sub(before(at)))).collect(),
            count: self.count.saturating_sub(earlier.count),
            sum: (self.sum - earlier.sum).max(0.0),
            ..Self::default()
        }
    }

    /// An estimate of the quantile `q` (0 to 1), linear within a bucket; `None` without observations. Above the last
    /// bound it is that bound.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = q * self.count as f64;
        let (mut lower, mut below) = (0.0, 0);
        for (bound, count) in &self.buckets {
            if *count as f64 >= rank && *count > below {
                let part = (rank - below as f64) / (*count - below) as f64;
                return Some(lower + (bound - lower) * part.clamp(0.0, 1.0));
            }
            (lower, below) = (*bound, *count);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&names::WEBSOCKET_LIFETIME_MESSAGES);
        for value in [0.0, 1.0, 1.5, 2e6] {
            histogram.observe(value);
        }
        let observed = histogram.observed();
        assert_eq!(&observed.buckets[..3], &[(0.0, 1), (1.0, 2), (10.0, 3)]);
        assert_eq!((observed.count, observed.sum), (4, 2_000_002.5));
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = Histogram::new(&names::WEBSOCKET_PING_RTT);
        assert_eq!(histogram.observed().quantile(0.5), None);
        (0..99).for_each(|_| histogram.observe(0.002));
        histogram.observe(100.0);
        let observed = histogram.observed();
        let median = observed.quantile(0.5).unwrap_or_default();
        assert!((0.001..=0.0025).contains(&median), "{median}");
        assert_eq!(observed.quantile(1.0), Some(10.0), "beyond the last bound");
        let since = observed.since(&observed);
        assert_eq!((since.count, since.quantile(0.5)), (0, None));
    }

    #[test]
    fn odd_values_neither_panic_nor_disturb_the_sum() {
        let histogram = Histogram::new(&names::HTTP_REQUEST_DURATION);
        for value in [f64::NAN, -1.0] {
            histogram.observe(value);
        }
        let observed = histogram.observed();
        assert_eq!((observed.count, observed.sum), (2, 0.0));
    }

    #[test]
    fn each_bucket_keeps_its_last_exemplar() {
        let histogram = Histogram::new(&names::WEBSOCKET_LIFETIME_MESSAGES);
        histogram.observe(0.0);
        assert_eq!(histogram.observed().exemplars, []);
        let trace = |number: u128| TraceId(number.to_be_bytes());
        for (value, number) in [(0.5, 1), (1.0, 2), (2e6, 3)] {
            histogram.observe_with_trace(value, trace(number));
        }
        let observed = histogram.observed();
        let shown: Vec<_> =
            observed.exemplars.iter().map(|last| last.map(|it| (it.value, it.trace))).collect();
        let mut expected = vec![None; observed.buckets.len() + 1];
        (expected[1], expected[observed.buckets.len()]) = (Some((1.0, trace(2))), Some((2e6, trace(3))));
        assert_eq!((shown, observed.count), (expected, 4));
    }
}
