//! What filters count. Showing it to Prometheus is the gateway's work: [`metrics`] is the seam.
//!
//! A series belongs to an entry's name: all workers, instances and generations count into the same one,
//! and it is gone with the last generation that has such an entry.

use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};

/// Series of one entry.
const MOST: usize = 1_000;

/// Upper bounds of a histogram's buckets; filters choose the unit.
pub(crate) const BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 1_000_000];

/// A series of a filter, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The entry's name.
    pub plugin: Arc<str>,
    /// What the filter calls it.
    pub name: Arc<str>,
    /// What it counted.
    pub count: Count,
}

/// What a series counted.
#[derive(Clone, Debug, PartialEq)]
pub enum Count {
    /// It only grows.
    Counter(u64),
    /// It goes up and down.
    Gauge(i64),
    /// Numbers in buckets.
    Histogram {
        /// Upper bound, and how many were at most that large.
        buckets: Vec<(u64, u64)>,
        /// How many.
        count: u64,
        /// Their sum.
        sum: u64,
    },
}

/// The sorts of series, with their numbers in proxy-wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
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
    sort: Sort,
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
    /// The ledger of the entries of that name.
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

    /// The number of a series, which is new or was defined before; `None` when it was of another sort
    /// or there are too many.
    pub(crate) fn define(&self, sort: Sort, name: &str) -> Option<u32> {
        let mut series = self.series.write();
        if let Some(at) = series.iter().position(|kept| &*kept.name == name) {
            return (series[at].sort == sort).then(|| u32::try_from(at).ok())?;
        }
        if series.len() >= MOST {
            return None;
        }
        let buckets = if sort == Sort::Histogram { BOUNDS.len() + 1 } else { 0 };
        series.push(Arc::new(MetricSlot {
            name: name.into(),
            sort,
            value: AtomicU64::new(0),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }));
        u32::try_from(series.len() - 1).ok()
    }

    /// Sets a gauge, adds to a counter, or puts a number into a histogram; whether there is one.
    pub(crate) fn record(&self, at: u32, value: u64) -> bool {
        self.with(at, |kept| match kept.sort {
            Sort::Counter => {
                kept.value.fetch_add(value, Relaxed);
            }
            Sort::Gauge => kept.value.store(value, Relaxed),
            Sort::Histogram => {
                kept.value.fetch_add(value, Relaxed);
                let bucket = BOUNDS.partition_point(|bound| *bound < value);
                kept.buckets[bucket].fetch_add(1, Relaxed);
            }
        })
        .is_some()
    }

    /// Adds to a counter or a gauge; whether it can be added to.
    pub(crate) fn increment(&self, at: u32, offset: i64) -> bool {
        self.with(at, |kept| {
            let fits = kept.sort == Sort::Gauge || kept.sort == Sort::Counter && offset >= 0;
            if fits {
                // Of a gauge the number is one with a sign, and adding is the same for both.
                kept.value.fetch_add(offset.cast_unsigned(), Relaxed);
            }
            fits
        })
        .unwrap_or(false)
    }

    /// The value of a counter or a gauge.
    pub(crate) fn get(&self, at: u32) -> Option<u64> {
        self.with(at, |kept| (kept.sort != Sort::Histogram).then(|| kept.value.load(Relaxed)))?
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
        match self.sort {
            Sort::Counter => Count::Counter(value),
            Sort::Gauge => Count::Gauge(value.cast_signed()),
            Sort::Histogram => {
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
        let counter = one.define(Sort::Counter, "hits").unwrap();
        assert_eq!(two.define(Sort::Counter, "hits"), Some(counter));
        assert_eq!(two.define(Sort::Gauge, "hits"), None, "it is of another sort");
        assert!(one.increment(counter, 2) && two.record(counter, 3) && !one.increment(counter, -1));
        let gauge = one.define(Sort::Gauge, "open").unwrap();
        assert!(one.increment(gauge, -4));
        let sizes = one.define(Sort::Histogram, "sizes").unwrap();
        assert!(one.record(sizes, 7) && one.record(sizes, 5_000_000) && one.get(sizes).is_none());
        let mine: Vec<_> = metrics().into_iter().filter(|series| &*series.plugin == "metrics test").collect();
        assert_eq!(mine[0].count, Count::Counter(5));
        assert_eq!(mine[1].count, Count::Gauge(-4));
        let Count::Histogram { buckets, count: 2, sum: 5_000_007 } = &mine[2].count else { unreachable!() };
        assert_eq!((buckets[2], buckets[3], buckets[15]), ((5, 0), (10, 1), (1_000_000, 1)));
    }

    #[test]
    fn an_entry_has_only_so_many_series() {
        let ledger = Ledger::of("many");
        assert!((0..MOST).all(|n| ledger.define(Sort::Counter, &n.to_string()).is_some()));
        assert_eq!(ledger.define(Sort::Counter, "one more"), None);
        assert!(!ledger.record(9_999, 1) && ledger.get(9_999).is_none());
    }
}
