//! Drains of WebSockets in progress, as the admin API shows them.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The drains in progress; the reconciler replaces them.
#[derive(Debug, Default)]
pub struct DrainProgress(Mutex<Vec<EndpointDrain>>);

/// The drain of the WebSockets of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct EndpointDrain {
    /// The endpoint's token.
    pub endpoint: u64,
    /// When it began, in Unix milliseconds.
    pub started: u64,
    /// The window over which the WebSockets are closed.
    pub window: Duration,
    /// The WebSockets at the beginning.
    pub websockets: usize,
    /// When the window ends.
    pub ends: Instant,
}

impl EndpointDrain {
    /// The rest of the window.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }
}

impl DrainProgress {
    pub(super) fn replace(&self, drains: Vec<EndpointDrain>) {
        *self.0.lock() = drains;
    }

    /// The drain of each endpoint; those of its routes count as one.
    pub fn by_endpoint(&self) -> Vec<EndpointDrain> {
        let mut all: Vec<EndpointDrain> = Vec::new();
        for drain in &*self.0.lock() {
            match all.iter_mut().find(|known| known.endpoint == drain.endpoint) {
                None => all.push(*drain),
                Some(known) => {
                    known.websockets += drain.websockets;
                    known.started = known.started.min(drain.started);
                    if drain.ends > known.ends {
                        (known.ends, known.window) = (drain.ends, drain.window);
                    }
                }
            }
        }
        all
    }
}
