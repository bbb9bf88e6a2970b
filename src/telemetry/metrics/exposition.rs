//! One scrape: metric families, encoded in the text format by the `prometheus` crate.

use super::histogram::{Histogram, ObservedValue};
use super::names::{Family, Shape};
use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

/// The families of a scrape.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    families: BTreeMap<&'static str, MetricFamily>,
}

/// An owner of numbers that are read at a scrape, such as the health of endpoints.
pub(crate) trait MetricSource: Send + Sync {
    /// Adds the source's series to `scrape`. Runs on the scrape's thread and must not block.
    fn collect(&self, scrape: &mut Exposition);
}

impl Exposition {
    /// Adds a counter with its label values in the order of `family.labels`.
    pub(crate) fn counter(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        self.add(family, labels).set_counter(counter);
    }

    /// Adds a gauge with its label values in the order of `family.labels`.
    pub(crate) fn gauge(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        self.add(family, labels).set_gauge(gauge);
    }

    /// Adds a histogram if it has an observation.
    pub(super) fn histogram(&mut self, family: &'static Family, labels: &[&str], histogram: &Histogram) {
        let observed = histogram.observed();
        if observed.count > 0 {
            self.observed(family, labels, observed);
        }
    }

    /// Adds a histogram that was counted elsewhere.
    pub(crate) fn observed(&mut self, family: &'static Family, labels: &[&str], observed: ObservedValue) {
        let mut shown = proto::Histogram::default();
        shown.set_sample_count(observed.count);
        shown.set_sample_sum(observed.sum);
        let buckets = observed.buckets.into_iter().map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        shown.set_bucket(buckets.collect());
        self.add(family, labels).set_histogram(shown);
    }

    /// The text exposition format, with families sorted by name.
    pub(super) fn encode(self) -> String {
        let families: Vec<_> = self.families.into_values().collect();
        // The encoder fails only for a family without series; a family is created with its first series.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn add(&mut self, family: &'static Family, labels: &[&str]) -> &mut Metric {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let shown = self.families.entry(family.name).or_insert_with(|| empty(family));
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let metrics = shown.mut_metric();
        metrics.push(Metric::from_label(pairs.collect()));
        let last = metrics.len() - 1;
        &mut metrics[last]
    }
}

fn empty(family: &Family) -> MetricFamily {
    let mut shown = MetricFamily::default();
    shown.set_name(family.name.to_owned());
    shown.set_help(family.help.to_owned());
    shown.set_field_type(match family.shape {
        Shape::Counter => MetricType::COUNTER,
        Shape::Gauge => MetricType::GAUGE,
        Shape::Histogram(_) => MetricType::HISTOGRAM,
    });
    shown
}
