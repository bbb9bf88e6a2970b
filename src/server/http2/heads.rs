//! The heads of requests that h2 has and has not handed to us. Those that it refuses by itself are seen by what it sends on
//! their streams, for it tells nothing of them.

use super::frames::{Frame, RST_STREAM};
use crate::proxy::Failure;
use parking_lot::Mutex;

/// The error code of a stream beyond those that a client may have at a time (RFC 9113 §7). The client may try again.
const REFUSED_STREAM: u32 = 7;

/// Heads that are remembered. h2 lets a client have fewer streams.
const MAX_WAITING: usize = 256;

/// The heads of one connection.
#[derive(Default)]
pub(super) struct Heads {
    waiting: Mutex<Vec<u32>>,
    refused: Option<Box<dyn Fn(Failure) + Send + Sync>>,
}

impl Heads {
    /// `refused` is told of each head that is refused.
    pub(super) fn new(refused: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        Self { waiting: Mutex::default(), refused: Some(Box::new(refused)) }
    }

    /// The head of a new stream begins.
    pub(super) fn came(&self, stream: u32) {
        let mut waiting = self.waiting.lock();
        if waiting.len() == MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(stream);
    }

    /// The request of that stream is served: what is sent on it from here on is its response.
    pub(super) fn serve(&self, stream: u32) {
        self.remove(stream);
    }

    /// h2 sent HEADERS or RST_STREAM.
    pub(super) fn went(&self, frame: Frame) {
        if !self.remove(frame.stream) {
            return;
        }
        self.tell(match (frame.kind, frame.code) {
            (RST_STREAM, REFUSED_STREAM) => Failure::TooManyStreams,
            (RST_STREAM, _) => Failure::MALFORMED,
            // The one response of its own: 431.
            _ => Failure::HeadTooLarge,
        });
    }

    /// The head of that stream takes too long.
    pub(super) fn expire(&self, stream: u32) {
        if self.remove(stream) {
            self.tell(Failure::HeaderTimeout);
        }
    }

    /// The connection has ended, and what is left with it.
    pub(super) fn end(&self, failure: Failure) {
        for _ in std::mem::take(&mut *self.waiting.lock()) {
            self.tell(failure);
        }
    }

    fn remove(&self, stream: u32) -> bool {
        let mut waiting = self.waiting.lock();
        let found = waiting.iter().position(|waits| *waits == stream);
        found.map(|at| waiting.remove(at)).is_some()
    }

    fn tell(&self, failure: Failure) {
        if let Some(refused) = &self.refused {
            refused(failure);
        }
    }
}
