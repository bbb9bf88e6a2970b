//! Counts of the process that handed over to this one. A scrape adds them, so that counters and histograms continue, and
//! series that only the old process had stay.

use super::histogram::ObservedValue;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The counts of one series.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct CountedSeries {
    /// The name of the family.
    pub(super) family: String,
    /// Label values, in the order of the family.
    #[serde(default)]
    pub(super) labels: Vec<String>,
    pub(super) counts: Counts,
}

/// What was counted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Counts {
    Counter(f64),
    Histogram { buckets: Vec<(f64, u64)>, count: u64, sum: f64 },
}

/// The series by name and labels.
#[derive(Debug, Default)]
pub(super) struct InheritedCounts(HashMap<String, CountedSeries>);

impl InheritedCounts {
    /// Those of a list. A family that only this process has, such as its CPU time, is left out.
    pub(super) fn new(series: Vec<CountedSeries>) -> Self {
        let counted = series.into_iter().filter(|series| is_continued(&series.family));
        let keyed = counted.map(|series| {
            let labels: Vec<_> = series.labels.iter().map(String::as_str).collect();
            (key(&series.family, &labels), series)
        });
        Self(keyed.collect())
    }

    /// The counter of a series.
    pub(super) fn counter(&self, key: &str) -> f64 {
        match self.0.get(key).map(|series| &series.counts) {
            Some(Counts::Counter(count)) if count.is_finite() && *count >= 0.0 => *count,
            _ => 0.0,
        }
    }

    /// Adds the histogram of a series, if it has the same bounds.
    pub(super) fn add(&self, key: &str, to: &mut ObservedValue) {
        let Some(Counts::Histogram { buckets, count, sum }) = self.0.get(key).map(|series| &series.counts)
        else {
            return;
        };
        let bounds =
            |buckets: &[(f64, u64)]| buckets.iter().map(|(bound, _)| bound.to_bits()).collect::<Vec<_>>();
        if bounds(buckets) != bounds(&to.buckets) {
            return;
        }
        for ((_, own), (_, inherited)) in to.buckets.iter_mut().zip(buckets) {
            *own = own.saturating_add(*inherited);
        }
        to.count = to.count.saturating_add(*count);
        to.sum += sum;
    }

    /// Every series with its key.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &CountedSeries)> {
        self.0.iter()
    }
}

/// Returns whether the family of a counter or histogram continues in another process.
pub(super) fn is_continued(family: &str) -> bool {
    !family.starts_with("process_")
}

/// The key of a series.
pub(super) fn key(family: &str, labels: &[&str]) -> String {
    // No label value that the gateway makes contains it, and a collision would only add two counts.
    let mut key = family.to_owned();
    for label in labels {
        key.push('\u{1}');
        key.push_str(label);
    }
    key
}
