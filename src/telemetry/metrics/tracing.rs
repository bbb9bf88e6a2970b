//! Exported and dropped spans of traces.

use super::exposition::Exposition;
use super::names;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why spans were not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanDrop {
    /// The queue had its maximum of spans.
    QueueFull,
    /// The collector did not accept them within the time for retries.
    Unavailable,
    /// The collector refused the export with a final status.
    Refused,
    /// The collector accepted the export without these.
    Rejected,
    /// The process ended before the collector accepted them.
    Shutdown,
    /// A WebSocket closed after a reload had removed `tracing`.
    Disabled,
}

/// The reasons with their labels, in the order of the enum.
const REASONS: [(SpanDrop, &str); 6] = [
    (SpanDrop::QueueFull, "queue_full"),
    (SpanDrop::Unavailable, "unavailable"),
    (SpanDrop::Refused, "refused"),
    (SpanDrop::Rejected, "rejected"),
    (SpanDrop::Shutdown, "shutdown"),
    (SpanDrop::Disabled, "disabled"),
];

/// All spans of the process.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    exported: AtomicU64,
    dropped: [AtomicU64; REASONS.len()],
}

impl Tracing {
    /// Counts spans that the collector accepted.
    pub(crate) fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Relaxed);
    }

    /// Counts spans that were not exported.
    pub(crate) fn dropped(&self, reason: SpanDrop, spans: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(spans, Relaxed);
        }
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        scrape.counter(&names::TRACING_EXPORTED, &[], self.exported.load(Relaxed) as f64);
        for ((_, label), count) in REASONS.iter().zip(&self.dropped) {
            scrape.counter(&names::TRACING_DROPPED, &[label], count.load(Relaxed) as f64);
        }
    }
}
