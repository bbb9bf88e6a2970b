//! Connections of clients that speak HTTP/2: how many there are, and why they ended.

use super::exposition::Exposition;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its client left.
    Client,
    /// Nothing was asked for a while, or the process ended.
    Idle,
    /// Its client took too long to begin.
    Slow,
    /// It broke, or its client broke the protocol.
    Error,
    /// Its client sent too much that brings no request forward.
    Flood,
    /// Its client made too many requests that are none.
    Malformed,
}

impl Ended {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Client, "client"),
        (Self::Idle, "idle"),
        (Self::Slow, "slow"),
        (Self::Error, "error"),
        (Self::Flood, "flood"),
        (Self::Malformed, "malformed"),
    ];
}

/// All of them.
#[derive(Debug, Default)]
pub struct Http2Connections {
    active: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
}

/// One of them, counted as active until it is dropped.
#[derive(Debug)]
pub struct Http2Connection(Arc<Http2Connections>);

impl Http2Connections {
    /// One more.
    pub fn opened(self: &Arc<Self>) -> Http2Connection {
        self.active.fetch_add(1, Relaxed);
        Http2Connection(Arc::clone(self))
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        scrape.gauge(&names::HTTP2_CONNECTIONS, &[], self.active.load(Relaxed) as f64);
        for ((_, reason), count) in Ended::ALL.iter().zip(&self.ended) {
            let count = count.load(Relaxed);
            if count > 0 {
                scrape.counter(&names::HTTP2_CLOSED, &[reason], count as f64);
            }
        }
    }
}

impl Http2Connection {
    /// It ended.
    pub fn ended(self, why: Ended) {
        self.0.ended[why as usize].fetch_add(1, Relaxed);
    }
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
