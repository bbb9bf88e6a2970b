//! One scrape: the samples of each family as text, in the format that the scraper accepts.
//!
//! The crate `prometheus` has no OpenMetrics, and `prometheus-client` attaches exemplars only to its own histograms,
//! which take two locks for each observation.

use super::histogram::{Exemplar, Histogram, ObservedValue};
use super::names::{Family, Shape};
use super::text_format::{self, TextFormat};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// The families of a scrape.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    format: TextFormat,
    families: BTreeMap<&'static str, FamilySamples>,
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
    pub(super) fn new(format: TextFormat) -> Self {
        Self { format, families: BTreeMap::new() }
    }

    /// Adds a counter with its label values in the order of `family.labels`.
    pub(crate) fn counter(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.sample(family, labels, value);
    }

    /// Adds a gauge with its label values in the order of `family.labels`.
    pub(crate) fn gauge(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.sample(family, labels, value);
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
    pub(super) fn encode(self) -> String {
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
