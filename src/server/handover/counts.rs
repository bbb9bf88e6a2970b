//! Counters and histograms on their way to the new process, in messages of a limited size.

use super::channel::HandoverChannel;
use super::message::Message;
use crate::telemetry::metrics::{self, CountedSeries};
use std::io;

/// Series of a message: a histogram is a kilobyte.
const SERIES: usize = 100;

/// Sends the counts so far.
pub(super) fn send(channel: &HandoverChannel) -> io::Result<()> {
    let series: Vec<_> =
        metrics::counted().iter().filter_map(|series| serde_json::to_value(series).ok()).collect();
    let mut chunks = series.chunks(SERIES).peekable();
    while let Some(chunk) = chunks.next() {
        channel.send(Message::Counts { series: chunk.to_vec(), more: chunks.peek().is_some() }, &[])?;
    }
    Ok(())
}

/// Counts of the old process that arrive in several messages.
#[derive(Default)]
pub(super) struct ReceivedCounts(Vec<CountedSeries>);

impl ReceivedCounts {
    /// Adds those of a message. The last one replaces the counts of an earlier list.
    pub(super) fn add(&mut self, series: Vec<serde_json::Value>, more: bool) {
        // A series that cannot be read begins anew.
        self.0.extend(series.into_iter().filter_map(|series| serde_json::from_value(series).ok()));
        if !more {
            metrics::inherit(std::mem::take(&mut self.0));
        }
    }
}
