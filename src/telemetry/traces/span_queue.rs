//! Queue of finished spans between requests and the exporter: bounded by number, and every loss is counted. A request
//! never waits for it.

use super::span::FinishedSpan;
use crate::telemetry::metrics::{self, SpanDrop};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// The maximum number of spans of one export.
pub(crate) const BATCH: usize = 512;

/// Time for spans to collect before an export.
const GATHER: Duration = Duration::from_secs(1);

/// The finished spans that wait for an export.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    spans: Mutex<VecDeque<FinishedSpan>>,
    limit: usize,
    /// Wakes the exporter for the first span, and for a whole batch.
    wake: Notify,
    is_closed: watch::Sender<bool>,
}

impl SpanQueue {
    /// An empty queue for this many spans.
    pub(crate) fn new(limit: usize) -> Self {
        Self { spans: Mutex::default(), limit, wake: Notify::new(), is_closed: watch::Sender::new(false) }
    }

    /// Adds spans, or drops and counts them.
    pub(crate) fn push(&self, finished: impl IntoIterator<Item = FinishedSpan>) {
        let (mut lost, mut wakes) = (0, false);
        let mut spans = self.spans.lock();
        for span in finished {
            if spans.len() < self.limit {
                spans.push_back(span);
                wakes |= spans.len() == 1 || spans.len() == BATCH;
            } else {
                lost += 1;
            }
        }
        drop(spans);
        if wakes {
            self.wake.notify_one();
        }
        if lost > 0 {
            metrics::global().tracing().dropped(SpanDrop::QueueFull, lost);
        }
    }

    /// No more exports than those of the queued spans: the exporter ends with them, and waits for nothing.
    pub(crate) fn close(&self) {
        self.is_closed.send_replace(true);
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.is_closed.borrow()
    }

    /// Waits until the queue is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as the queue.
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }

    /// Drops and counts the queued spans.
    pub(crate) fn discard(&self, reason: SpanDrop) {
        let lost = std::mem::take(&mut *self.spans.lock()).len();
        metrics::global().tracing().dropped(reason, lost as u64);
    }

    /// The next spans to export; `None` if the queue is closed and empty.
    pub(crate) async fn next_batch(&self) -> Option<Vec<FinishedSpan>> {
        loop {
            let queued = self.spans.lock().len();
            let is_closed = self.is_closed();
            if queued >= BATCH || (is_closed && queued > 0) {
                break;
            }
            if is_closed {
                return None;
            }
            if queued == 0 {
                self.wake.notified().await;
            } else if timeout(GATHER, self.full()).await.is_err() {
                break;
            }
        }
        let mut spans = self.spans.lock();
        let count = spans.len().min(BATCH);
        Some(spans.drain(..count).collect())
    }

    /// Waits for a whole batch, or for the end.
    async fn full(&self) {
        while self.spans.lock().len() < BATCH && !self.is_closed() {
            self.wake.notified().await;
        }
    }
}
