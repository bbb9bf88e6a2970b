//! PROXY protocol metrics of one listener: connections closed because of their header.

use super::exposition::Exposition;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason for closing a connection before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// The connection started with other bytes.
    Missing,
    /// The header was invalid.
    Malformed,
    /// The header was too long.
    TooLong,
    /// The checksum was wrong.
    Checksum,
    /// The header was incomplete after the timeout.
    Timeout,
    /// The connection was closed inside the header.
    Closed,
}

impl Preamble {
    const ALL: [Self; 6] =
        [Self::Missing, Self::Malformed, Self::TooLong, Self::Checksum, Self::Timeout, Self::Closed];

    /// The reason's name as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Checksum => "checksum",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

/// The series of one listener, as long as its configuration holds the handle.
#[derive(Debug)]
pub struct ProxyHeaderMetrics {
    listener: Box<str>,
    refused: [AtomicU64; Preamble::ALL.len()],
}

impl ProxyHeaderMetrics {
    /// The existing or new series of `listener`.
    pub fn of(listener: &str) -> Arc<Self> {
        super::global().preamble(listener)
    }

    pub(super) fn new(listener: &str) -> Self {
        Self { listener: listener.into(), refused: Default::default() }
    }

    /// The listener's name.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Counts a closed connection.
    pub fn refused(&self, why: Preamble) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for (why, count) in Preamble::ALL.iter().zip(&self.refused) {
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = [&self.listener, why.label()];
                scrape.counter(&names::PROXY_PROTOCOL_ERRORS, &labels, count as f64);
            }
        }
    }
}
