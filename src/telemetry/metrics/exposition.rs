//! One scrape: the samples of each family as text, in the format that the scraper accepts.
//!
//! The crate `prometheus` has no OpenMetrics, and `prometheus-client` attaches exemplars only to its own histograms,
//! which take two locks for each observation.

use super::histogram::{Exemplar, Histogram, ObservedValue};
use super::inherited::{self, CountedSeries, Counts, InheritedCounts};
use super::names::{self, Family, Shape};
use super::text_format::{self, TextFormat};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The families of a scrape.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    format: TextFormat,
    families: BTreeMap<&'static str, FamilySamples>,
    /// The counts of the process before, and the keys of the series that have got theirs.
    inherited: Option<Arc<InheritedCounts>>,
    continued: HashSet<String>,
    /// Counts for the next process, in place of text.
    recorded: Option<Vec<CountedSeries>>,
}

/// An owner of numbers that are read at a scrape, such as the health of endpoints.
pub(crate) trait MetricSource: Send + Sync {
    /// Adds the source's series to `scrape`. Runs on the scrape's thread and must not block.
    fn collect(&self, scrape: &mut Exposition);
}

/// The sample lines of one family.
#[derive(Debug)]
struct FamilySamples {
    family: &'static Family,
    lines: String,
}

/// The labels of a series, and one more label of its sample.
#[derive(Clone, Copy)]
struct Labels<'a> {
    family: &'static Family,
    values: &'a [&'a str],
    bound: Option<f64>,
}

impl Exposition {
    /// An empty scrape in this format.
    pub(super) fn new(format: TextFormat, inherited: Option<Arc<InheritedCounts>>) -> Self {
        Self { format, inherited, ..Self::default() }
    }

    /// An empty scrape that records counts for the next process.
    pub(super) fn recorder(inherited: Option<Arc<InheritedCounts>>) -> Self {
        Self { inherited, recorded: Some(Vec::new()), ..Self::default() }
    }

    /// The recorded counts.
    pub(super) fn into_recorded(mut self) -> Vec<CountedSeries> {
        self.add_ended_series();
        self.recorded.unwrap_or_default()
    }

    /// Adds a counter with its label values in the order of `family.labels`.
    pub(crate) fn counter(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut value = value;
        if let Some(inherited) = &self.inherited {
            let key = inherited::key(family.name, labels);
            value += inherited.counter(&key);
            self.continued.insert(key);
        }
        match &mut self.recorded {
            Some(recorded) => recorded.push(counted(family, labels, Counts::Counter(value))),
            None => self.sample(family, labels, value),
        }
    }

    /// Adds a gauge with its label values in the order of `family.labels`.
    pub(crate) fn gauge(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        if self.recorded.is_none() {
            self.sample(family, labels, value);
        }
    }

    /// Adds a histogram if it has an observation.
    pub(super) fn histogram(&mut self, family: &'static Family, labels: &[&str], histogram: &Histogram) {
        let observed = histogram.observed();
        if observed.count > 0 {
            self.observed(family, labels, &observed);
        }
    }

    /// Adds a histogram that was counted elsewhere.
    pub(crate) fn observed(&mut self, family: &'static Family, labels: &[&str], observed: &ObservedValue) {
        let mut observed = Cow::Borrowed(observed);
        if let Some(inherited) = &self.inherited {
            let key = inherited::key(family.name, labels);
            inherited.add(&key, observed.to_mut());
            self.continued.insert(key);
        }
        if let Some(recorded) = &mut self.recorded {
            let ObservedValue { buckets, count, sum, .. } = observed.into_owned();
            return recorded.push(counted(family, labels, Counts::Histogram { buckets, count, sum }));
        }
        let format = self.format;
        let lines = self.lines(family, labels);
        let labels = Labels { family, values: labels, bound: None };
        let last = (f64::INFINITY, observed.count);
        for (place, (bound, count)) in observed.buckets.iter().copied().chain([last]).enumerate() {
            begin(lines, format, "_bucket", Labels { bound: Some(bound), ..labels });
            text_format::number(lines, count as f64);
            if let Some(Some(exemplar)) = observed.exemplars.get(place)
                && format == TextFormat::OpenMetrics
            {
                exemplar.write(lines);
            }
            lines.push('\n');
        }
        for (suffix, value) in [("_sum", observed.sum), ("_count", observed.count as f64)] {
            begin(lines, format, suffix, labels);
            text_format::number(lines, value);
            lines.push('\n');
        }
        if let Some(created) = observed.created
            && format == TextFormat::OpenMetrics
        {
            begin(lines, format, "_created", labels);
            unix_seconds(lines, created);
            lines.push('\n');
        }
    }

    /// The text of the scrape, with families sorted by name.
    pub(super) fn encode(mut self) -> String {
        self.add_ended_series();
        let mut out =
            String::with_capacity(self.families.values().map(|shown| shown.lines.len() + 256).sum());
        for FamilySamples { family, lines } in self.families.values() {
            let name = match self.format {
                TextFormat::Classic => family.name,
                TextFormat::OpenMetrics => family.open_metrics_name(),
            };
            let _ = write!(out, "# HELP {name} ");
            self.format.help(&mut out, family.help);
            let kind = match (family.shape, self.format) {
                (Shape::Counter, _) => "counter",
                (Shape::Info, TextFormat::OpenMetrics) => "info",
                (Shape::Gauge | Shape::Info, _) => "gauge",
                (Shape::Histogram(_), _) => "histogram",
            };
            let _ = write!(out, "\n# TYPE {name} {kind}\n");
            if let Some(unit) = family.unit().filter(|_| self.format == TextFormat::OpenMetrics) {
                let _ = writeln!(out, "# UNIT {name} {unit}");
            }
            out.push_str(lines);
        }
        if self.format == TextFormat::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    /// Adds the series that only the process before had.
    fn add_ended_series(&mut self) {
        let Some(inherited) = self.inherited.take() else { return };
        let continued = std::mem::take(&mut self.continued);
        for (_, series) in inherited.all().filter(|(key, _)| !continued.contains(*key)) {
            let Some(family) = names::ALL.iter().find(|family| family.name == series.family) else {
                continue;
            };
            let labels: Vec<_> = series.labels.iter().map(String::as_str).collect();
            if labels.len() != family.labels.len() {
                continue;
            }
            match (&series.counts, family.shape) {
                (Counts::Counter(value), Shape::Counter) => self.counter(family, &labels, *value),
                (Counts::Histogram { buckets, count, sum }, Shape::Histogram(_)) => {
                    let (buckets, count, sum) = (buckets.clone(), *count, *sum);
                    let observed = ObservedValue { buckets, count, sum, ..ObservedValue::default() };
                    self.observed(family, &labels, &observed);
                }
                _ => {}
            }
        }
    }

    fn sample(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let format = self.format;
        let lines = self.lines(family, labels);
        begin(lines, format, "", Labels { family, values: labels, bound: None });
        text_format::number(lines, value);
        lines.push('\n');
    }

    fn lines(&mut self, family: &'static Family, labels: &[&str]) -> &mut String {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let shown = self.families.entry(family.name);
        &mut shown.or_insert_with(|| FamilySamples { family, lines: String::new() }).lines
    }
}

fn counted(family: &Family, labels: &[&str], counts: Counts) -> CountedSeries {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    CountedSeries { family: family.name.to_owned(), labels, counts }
}

impl Exemplar {
    fn write(&self, line: &mut String) {
        let _ = write!(line, " # {{trace_id=\"{}\"}} ", self.trace);
        text_format::number(line, self.value);
        line.push(' ');
        unix_seconds(line, self.at);
    }
}

/// Appends name and labels of a sample, and the space before its value.
fn begin(line: &mut String, format: TextFormat, suffix: &str, labels: Labels<'_>) {
    line.push_str(labels.family.name);
    line.push_str(suffix);
    let mut separator = '{';
    for (name, value) in labels.family.labels.iter().zip(labels.values) {
        line.push(separator);
        line.push_str(name);
        line.push_str("=\"");
        text_format::label_value(line, value);
        line.push('"');
        separator = ',';
    }
    if let Some(bound) = labels.bound {
        line.push(separator);
        line.push_str("le=\"");
        format.bound(line, bound);
        line.push('"');
        separator = ',';
    }
    line.push_str(if separator == ',' { "} " } else { " " });
}

/// Appends a time in Unix seconds with milliseconds.
fn unix_seconds(line: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let _ = write!(line, "{}.{:03}", since.as_secs(), since.subsec_millis());
}
