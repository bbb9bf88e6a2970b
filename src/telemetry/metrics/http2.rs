//! HTTP/2 connections of clients: number, and reasons of their ends.

use super::exposition::Exposition;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The client closed it.
    Client,
    /// The connection was idle, or the process ended.
    Idle,
    /// The client did not send its preface and SETTINGS in time.
    Slow,
    /// An I/O error or a protocol error.
    Error,
    /// The client sent too many frames without progress of a request.
    Flood,
    /// The client sent too many malformed requests.
    Malformed,
}

impl StreamEnd {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Client, "client"),
        (Self::Idle, "idle"),
        (Self::Slow, "slow"),
        (Self::Error, "error"),
        (Self::Flood, "flood"),
        (Self::Malformed, "malformed"),
    ];
}

/// The HTTP/2 connections of all clients.
#[derive(Debug, Default)]
pub(crate) struct Http2Connections {
    active: AtomicU64,
    ended: [AtomicU64; StreamEnd::ALL.len()],
}

/// One connection, active until dropped.
#[derive(Debug)]
pub(crate) struct Http2Connection(Arc<Http2Connections>);

impl Http2Connections {
    /// Counts a new connection.
    pub(crate) fn opened(self: &Arc<Self>) -> Http2Connection {
        self.active.fetch_add(1, Relaxed);
        Http2Connection(Arc::clone(self))
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        scrape.gauge(&names::HTTP2_CONNECTIONS, &[], self.active.load(Relaxed) as f64);
        for ((_, reason), count) in StreamEnd::ALL.iter().zip(&self.ended) {
            let count = count.load(Relaxed);
            if count > 0 {
                scrape.counter(&names::HTTP2_CLOSED, &[reason], count as f64);
            }
        }
    }
}

impl Http2Connection {
    /// Counts the end of the connection.
    pub(crate) fn ended(self, why: StreamEnd) {
        self.0.ended[why as usize].fetch_add(1, Relaxed);
    }
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
