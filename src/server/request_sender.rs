//! Sender of requests to the process: those of signals, and those of the process to itself.

use super::shutdown_watchdog::Deadline;
use super::signal_request::Ask;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Sends requests, each of which sets the deadline of a shutdown that it begins.
#[derive(Clone)]
pub(super) struct RequestSender {
    asks: UnboundedSender<Ask>,
    deadline: Arc<Mutex<Deadline>>,
}

impl RequestSender {
    /// Sends to `asks`.
    pub(super) fn new(asks: UnboundedSender<Ask>, deadline: Arc<Mutex<Deadline>>) -> Self {
        Self { asks, deadline }
    }

    /// Asks the process.
    pub(super) fn ask(&self, ask: Ask) {
        self.deadline.lock().asked(ask);
        // The receiver is gone only when the process already ends.
        let _ = self.asks.send(ask);
    }
}
