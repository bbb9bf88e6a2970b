//! What one listener counts of the PROXY protocol: the connections that it ended for their header.

use super::exposition::Exposition;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection was ended before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// It began with something else.
    Missing,
    /// Its header broke the rules.
    Malformed,
    /// Its header was too long.
    TooLong,
    /// The checksum was not that of the header.
    Checksum,
    /// The header was not whole in time.
    Timeout,
    /// The connection ended inside the header.
    Closed,
}

impl Preamble {
    const ALL: [Self; 6] =
        [Self::Missing, Self::Malformed, Self::TooLong, Self::Checksum, Self::Timeout, Self::Closed];

    /// Its name as a label.
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

/// The series of one listener. Its configuration keeps the handle; they live as long as it does.
#[derive(Debug)]
pub struct PreambleMetrics {
    listener: Box<str>,
    refused: [AtomicU64; Preamble::ALL.len()],
}

impl PreambleMetrics {
    /// The series of `listener` in this process: those already in use under that name, or new ones.
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

    /// Counts a connection that was ended.
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
