//! Tracer of a generation: sampling, and the queue of finished spans. A reload with the same export settings keeps
//! the queue.

use super::span::FinishedSpan;
use super::span_context::SpanContext;
use super::span_queue::SpanQueue;
use crate::telemetry::TraceId;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

/// Whose `traceparent` is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Every client's.
    Follow,
    /// That of trusted proxies.
    Trusted,
    /// None: every request begins a trace.
    Ignore,
}

/// Where and how spans are exported. A change needs another exporter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExportSettings {
    /// The URL of the exports.
    pub(crate) url: String,
    /// Fields of each export.
    pub(crate) headers: HeaderMap,
    /// The time limit of one export.
    pub(crate) timeout: Duration,
    /// The name of the process in traces.
    pub(crate) service_name: String,
    /// The maximum number of queued spans.
    pub(crate) queue: usize,
}

/// The destination of spans, shared by the generations that have the same one.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) settings: ExportSettings,
    queue: Arc<SpanQueue>,
}

impl Drop for Export {
    /// The last request that could add spans has ended.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The tracing of one generation.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    export: Arc<Export>,
    parent: Parent,
    /// Traces are sampled whose ID is lower, in the 63 bits that the ratio sampler of OpenTelemetry compares.
    sampled_below: u64,
}

impl Tracer {
    /// A tracer with the queue of `prior`, if the export settings are equal. `ratio` is 0 to 1.
    pub(crate) fn new(settings: ExportSettings, parent: Parent, ratio: f64, prior: Option<&Self>) -> Self {
        let kept = prior.map(|prior| &prior.export).filter(|export| export.settings == settings);
        let export = kept.cloned().unwrap_or_else(|| {
            let queue = Arc::new(SpanQueue::new(settings.queue));
            Arc::new(Export { settings, queue })
        });
        // A float is converted with saturation.
        Self { export, parent, sampled_below: (ratio * (1_u64 << 63) as f64) as u64 }
    }

    /// The export settings.
    pub(crate) fn settings(&self) -> &ExportSettings {
        &self.export.settings
    }

    /// The queue to the exporter.
    pub(crate) fn queue(&self) -> &Arc<SpanQueue> {
        &self.export.queue
    }

    /// Adds finished spans to the queue.
    pub(crate) fn submit(&self, spans: impl IntoIterator<Item = FinishedSpan>) {
        self.export.queue.push(spans);
    }

    /// Returns whether the trace of a client's `traceparent` is continued.
    pub(crate) fn follows(&self, is_trusted: bool) -> bool {
        match self.parent {
            Parent::Follow => true,
            Parent::Trusted => is_trusted,
            Parent::Ignore => false,
        }
    }

    /// The first span of a new trace, with the sampling decision.
    pub(crate) fn begin_trace(&self) -> SpanContext {
        let context = SpanContext::new_trace();
        if self.samples(context.trace) { context.sampled() } else { context }
    }

    fn samples(&self, TraceId(id): TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.sampled_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> ExportSettings {
        ExportSettings {
            url: url.to_owned(),
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(1),
            service_name: "x".to_owned(),
            queue: 16,
        }
    }

    #[test]
    fn the_share_of_sampled_traces_is_the_ratio() {
        for (ratio, most, least) in [(0.0, 0, 0), (1.0, 20_000, 20_000), (0.25, 5_600, 4_400)] {
            let tracer = Tracer::new(settings("a"), Parent::Follow, ratio, None);
            let sampled = (0..20_000).filter(|_| tracer.begin_trace().is_sampled()).count();
            assert!((least..=most).contains(&sampled), "{ratio}: {sampled}");
        }
    }

    #[test]
    fn the_queue_survives_other_sampling_and_closes_with_its_last_tracer() {
        let first = Tracer::new(settings("a"), Parent::Follow, 0.0, None);
        let second = Tracer::new(settings("a"), Parent::Ignore, 1.0, Some(&first));
        assert!(Arc::ptr_eq(first.queue(), second.queue()));
        let other = Tracer::new(settings("b"), Parent::Ignore, 1.0, Some(&second));
        assert!(!Arc::ptr_eq(other.queue(), second.queue()));
        let queue = Arc::clone(first.queue());
        drop(first);
        assert!(!queue.is_closed());
        drop(second);
        assert!(queue.is_closed());
        assert!(!other.queue().is_closed());
    }
}
