//! The heads of requests that h2 has and has not handed to us. Those that it refuses by itself are seen by what it sends on
//! their streams, for it tells nothing of them.

use super::frame_scan::{Frame, RST_STREAM};
use crate::proxy::Failure;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The error code of a stream beyond those that a client may have at a time (RFC 9113 §7). The client may try again.
const REFUSED_STREAM: u32 = 7;

/// Heads that are remembered. More are open at a time only when a client resets streams at once.
const MAX_WAITING: usize = 256;

/// A head that no request has come of yet.
struct WaitingHead {
    stream: u32,
    /// Why it will not become a request. h2 may still hand it over: it accepts streams that were reset in the same read.
    failure: Option<Failure>,
}

/// The heads of one connection.
#[derive(Default)]
pub(super) struct Heads {
    waiting: Mutex<Vec<WaitingHead>>,
    /// Whether one of them has a failure.
    is_marked: AtomicBool,
    refused: Option<Box<dyn Fn(Failure) + Send + Sync>>,
}

impl Heads {
    /// `refused` is told of each head that is refused.
    pub(super) fn new(refused: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        Self { refused: Some(Box::new(refused)), ..Self::default() }
    }

    /// The head of a new stream begins.
    pub(super) fn on_head_begun(&self, stream: u32) {
        let mut waiting = self.waiting.lock();
        let oldest = (waiting.len() == MAX_WAITING).then(|| waiting.remove(0));
        waiting.push(WaitingHead { stream, failure: None });
        drop(waiting);
        if let Some(oldest) = oldest {
            self.tell(oldest.failure.unwrap_or(Failure::ClientGone));
        }
    }

    /// The request of that stream is served: what is sent on it from here on is its response.
    pub(super) fn serve(&self, stream: u32) {
        self.waiting.lock().retain(|head| head.stream != stream);
    }

    /// h2 sent HEADERS or RST_STREAM.
    pub(super) fn on_frame_sent(&self, frame: Frame) {
        let failure = match (frame.kind, frame.code) {
            (RST_STREAM, REFUSED_STREAM) => Failure::TooManyStreams,
            (RST_STREAM, _) => Failure::MALFORMED,
            // The one response of its own: 431.
            _ => Failure::HeadTooLarge,
        };
        self.mark(frame.stream, failure);
    }

    /// The client reset the stream: h2 drops what it was about to send on it.
    pub(super) fn on_client_reset(&self, stream: u32) {
        self.mark(stream, Failure::ClientGone);
    }

    /// h2 has handed over every request that it has: what is marked will not become one.
    pub(super) fn report(&self) {
        if !self.is_marked.swap(false, Ordering::Relaxed) {
            return;
        }
        let marked: Vec<_> = self.waiting.lock().extract_if(.., |head| head.failure.is_some()).collect();
        marked.into_iter().filter_map(|head| head.failure).for_each(|failure| self.tell(failure));
    }

    /// The head of that stream takes too long.
    pub(super) fn expire(&self, stream: u32) {
        self.mark(stream, Failure::HeaderTimeout);
    }

    /// The connection has ended, and what is left with it.
    pub(super) fn end(&self, failure: Failure) {
        for head in std::mem::take(&mut *self.waiting.lock()) {
            self.tell(head.failure.unwrap_or(failure));
        }
    }

    fn mark(&self, stream: u32, failure: Failure) {
        let mut waiting = self.waiting.lock();
        if let Some(head) = waiting.iter_mut().find(|head| head.stream == stream) {
            head.failure.get_or_insert(failure);
            self.is_marked.store(true, Ordering::Relaxed);
        }
    }

    fn tell(&self, failure: Failure) {
        if let Some(refused) = &self.refused {
            refused(failure);
        }
    }
}
