//! Metrics that filters define. The gateway exports them through [`metrics`].
//!
//! A series belongs to an entry's name: all workers, instances and generations share it, and it is removed with the
//! last generation that has such an entry.

use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};

/// The maximum number of series of one entry.
const MOST: usize = 1_000;

/// Upper bounds of a histogram's buckets; filters choose the unit.
pub(crate) const BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 1_000_000];

/// A series of a filter and its current value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The entry's name.
    pub plugin: Arc<str>,
    /// The filter's name for it.
    pub name: Arc<str>,
    /// Its value.
    pub count: Count,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Count {
    /// A counter.
    Counter(u64),
    /// A gauge.
    Gauge(i64),
    /// A histogram.
    Histogram {
        /// Upper bounds, each with the number of observations up to it.
        buckets: Vec<(u64, u64)>,
        /// The number of observations.
        count: u64,
        /// Their sum.
        sum: u64,
    },
}

/// Types of series, with their numbers in proxy-wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// The series of one entry.
#[derive(Debug)]
pub(crate) struct Ledger {
    plugin: Arc<str>,
    series: RwLock<Vec<Arc<MetricSlot>>>,
}

#[derive(Debug)]
struct MetricSlot {
    name: Arc<str>,
    kind: MetricType,
    /// A counter's or gauge's value, or a histogram's sum.
    value: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

static LEDGERS: LazyLock<Mutex<BTreeMap<Arc<str>, Weak<Ledger>>>> = LazyLock::new(Mutex::default);

/// All series of all filters, by entry.
pub fn metrics() -> Vec<Series> {
    let ledgers: Vec<_> = LEDGERS.lock().values().filter_map(Weak::upgrade).collect();
    ledgers.iter().flat_map(|ledger| ledger.show()).collect()
}

impl Ledger {
    /// The series of the entries of that name.
    pub(crate) fn of(plugin: &str) -> Arc<Self> {
        let mut ledgers = LEDGERS.lock();
        if let Some(known) = ledgers.get(plugin).and_then(Weak::upgrade) {
            return known;
        }
        let plugin: Arc<str> = plugin.into();
        let new = Arc::new(Self { plugin: plugin.clone(), series: RwLock::default() });
        ledgers.retain(|_, known| known.strong_count() > 0);
        ledgers.insert(plugin, Arc::downgrade(&new));
        new
    }

    /// The number of a new or existing series; `None` if it exists with another type or the limit is reached.
    pub(crate) fn define(&self, kind: MetricType, name: &str) -> Option<u32> {
        let mut series = self.series.write();
        if let Some(at) = series.iter().position(|kept| &*kept.name == name) {
            return (series[at].kind == kind).then(|| u32::try_from(at).ok())?;
        }
        if series.len() >= MOST {
            return None;
        }
        let buckets = if kind == MetricType::Histogram { BOUNDS.len() + 1 } else { 0 };
        series.push(Arc::new(MetricSlot {
            name: name.into(),
            kind,
            value: AtomicU64::new(0),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }));
        u32::try_from(series.len() - 1).ok()
    }

    /// Sets a gauge, adds to a counter, or observes a value in a histogram; false without such a series.
    pub(crate) fn record(&self, at: u32, value: u64) -> bool {
        self.with(at, |kept| match kept.kind {
            MetricType::Counter => {
                kept.value.fetch_add(value, Relaxed);
            }
            MetricType::Gauge => kept.value.store(value, Relaxed),
            MetricType::Histogram => {
                kept.value.fetch_add(value, Relaxed);
                let bucket = BOUNDS.partition_point(|bound| *bound < value);
                kept.buckets[bucket].fetch_add(1, Relaxed);
            }
        })
        .is_some()
    }

    /// Adds to a counter or a gauge; false for other series.
    pub(crate) fn increment(&self, at: u32, offset: i64) -> bool {
        self.with(at, |kept| {
            let fits = kept.kind == MetricType::Gauge || kept.kind == MetricType::Counter && offset >= 0;
            if fits {
                // A gauge is signed, and addition is the same for both.
                kept.value.fetch_add(offset.cast_unsigned(), Relaxed);
            }
            fits
        })
        .unwrap_or(false)
    }

    /// The value of a counter or a gauge.
    pub(crate) fn get(&self, at: u32) -> Option<u64> {
        self.with(at, |kept| (kept.kind != MetricType::Histogram).then(|| kept.value.load(Relaxed)))?
    }

    fn with<T>(&self, at: u32, act: impl FnOnce(&MetricSlot) -> T) -> Option<T> {
        self.series.read().get(at as usize).map(|kept| act(kept))
    }

    fn show(&self) -> Vec<Series> {
        let show = |kept: &Arc<MetricSlot>| Series {
            plugin: self.plugin.clone(),
            name: kept.name.clone(),
            count: kept.count(),
        };
        self.series.read().iter().map(show).collect()
    }
}

impl MetricSlot {
    fn count(&self) -> Count {
        let value = self.value.load(Relaxed);
        match self.kind {
            MetricType::Counter => Count::Counter(value),
            MetricType::Gauge => Count::Gauge(value.cast_signed()),
            MetricType::Histogram => {
                let mut count = 0;
                let mut buckets = Vec::with_capacity(BOUNDS.len());
                for (at, bucket) in self.buckets.iter().enumerate() {
                    count += bucket.load(Relaxed);
                    buckets.extend(BOUNDS.get(at).map(|bound| (*bound, count)));
                }
                Count::Histogram { buckets, count, sum: value }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn all_instances_of_an_entry_count_into_the_same_series() {
        let (one, two) = (Ledger::of("metrics test"), Ledger::of("metrics test"));
        let counter = one.define(MetricType::Counter, "hits").unwrap();
        assert_eq!(two.define(MetricType::Counter, "hits"), Some(counter));
        assert_eq!(two.define(MetricType::Gauge, "hits"), None, "it has another type");
        assert!(one.increment(counter, 2) && two.record(counter, 3) && !one.increment(counter, -1));
        let gauge = one.define(MetricType::Gauge, "open").unwrap();
        assert!(one.increment(gauge, -4));
        let sizes = one.define(MetricType::Histogram, "sizes").unwrap();
        assert!(one.record(sizes, 7) && one.record(sizes, 5_000_000) && one.get(sizes).is_none());
        let mine: Vec<_> = metrics().into_iter().filter(|series| &*series.plugin == "metrics test").collect();
        assert_eq!(mine[0].count, Count::Counter(5));
        assert_eq!(mine[1].count, Count::Gauge(-4));
        let Count::Histogram { buckets, count: 2, sum: 5_000_007 } = &mine[2].count else { unreachable!() };
        assert_eq!((buckets[2], buckets[3], buckets[15]), ((5, 0), (10, 1), (1_000_000, 1)));
    }

    #[test]
    fn the_number_of_series_of_an_entry_is_limited() {
        let ledger = Ledger::of("many");
        assert!((0..MOST).all(|n| ledger.define(MetricType::Counter, &n.to_string()).is_some()));
        assert_eq!(ledger.define(MetricType::Counter, "one more"), None);
        assert!(!ledger.record(9_999, 1) && ledger.get(9_999).is_none());
    }
}
