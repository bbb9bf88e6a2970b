//! Rejected requests: headers that h2 has received and not returned. h2 does not report those that it
//! rejects, so they are detected by the frames that it sends on their streams.

use super::frame_scan::{Frame, RST_STREAM};
use crate::proxy::Failure;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The error code for a stream above the limit (RFC 9113 §7), which the client may retry.
const REFUSED_STREAM: u32 = 7;

/// The number of headers that are tracked. More are open only if a client resets streams at once.
const MAX_WAITING: usize = 256;

/// A header without a request yet.
struct WaitingHead {
    stream: u32,
    /// Why it is rejected. h2 may still return it: it accepts streams that were reset in the same read.
    failure: Option<Failure>,
}

/// The headers of one connection.
#[derive(Default)]
pub(super) struct Heads {
    waiting: Mutex<Vec<WaitingHead>>,
    /// Whether one of them has a failure.
    is_marked: AtomicBool,
    refused: Option<Box<dyn Fn(Failure) + Send + Sync>>,
}

impl Heads {
    /// Calls `refused` for each rejected header.
    pub(super) fn new(refused: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        Self { refused: Some(Box::new(refused)), ..Self::default() }
    }

    /// A header starts on a new stream.
    pub(super) fn on_head_begun(&self, stream: u32) {
        let mut waiting = self.waiting.lock();
        let oldest = (waiting.len() == MAX_WAITING).then(|| waiting.remove(0));
        waiting.push(WaitingHead { stream, failure: None });
        drop(waiting);
        if let Some(oldest) = oldest {
            self.tell(oldest.failure.unwrap_or(Failure::ClientGone));
        }
    }

    /// The stream's request is served: frames sent on it from now on are its response.
    pub(super) fn serve(&self, stream: u32) {
        self.waiting.lock().retain(|head| head.stream != stream);
    }

    /// h2 sent HEADERS or RST_STREAM.
    pub(super) fn on_frame_sent(&self, frame: Frame) {
        let failure = match (frame.kind, frame.code) {
            (RST_STREAM, REFUSED_STREAM) => Failure::TooManyStreams,
            (RST_STREAM, _) => Failure::MALFORMED,
            // 431 is the only response that h2 makes itself.
            _ => Failure::HeadTooLarge,
        };
        self.mark(frame.stream, failure);
    }

    /// The client reset the stream: h2 discards frames to send on it.
    pub(super) fn on_client_reset(&self, stream: u32) {
        self.mark(stream, Failure::ClientGone);
    }

    /// h2 has returned every request that it has: marked ones are rejected.
    pub(super) fn report(&self) {
        if !self.is_marked.swap(false, Ordering::Relaxed) {
            return;
        }
        let marked: Vec<_> = self.waiting.lock().extract_if(.., |head| head.failure.is_some()).collect();
        marked.into_iter().filter_map(|head| head.failure).for_each(|failure| self.tell(failure));
    }

    /// The header of that stream timed out.
    pub(super) fn expire(&self, stream: u32) {
        self.mark(stream, Failure::HeaderTimeout);
    }

    /// The connection has ended, and the remaining headers with it.
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
