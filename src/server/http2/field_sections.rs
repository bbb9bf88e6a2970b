//! HTTP/2 field sections of a client before h2 parses them, for two rules of RFC 9113 that h2 does not
//! enforce.
//!
//! Trailers have no pseudo-header fields (§8.1), and `:path` has no fragment (§8.3.1). h2 discards the
//! offending parts, so later code cannot detect them. h2 validates frames and their order.

use super::frame_scan::{DATA, Frame, HEADERS, RST_STREAM};
use super::hpack_scan::Fields;
use super::rejected_by_h2::Heads;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The flag of padded HEADERS (RFC 9113 §6.2).
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The flag of HEADERS and DATA that ends the client's direction of a stream.
const END_STREAM: u8 = 0x1;

/// The number of open streams that are tracked. h2 allows a client fewer.
const MAX_OPEN: usize = 256;

/// The field sections of one connection.
#[derive(Default)]
pub(super) struct FieldSections {
    /// The last stream that the client has opened.
    newest: u32,
    /// The streams that are open in the client's direction: HEADERS on other ones are no trailers, and h2
    /// rejects them.
    open: BTreeSet<u32>,
    /// The current section contains trailers.
    trailers: bool,
    /// The remaining bytes of the frame's payload, padding included.
    left: usize,
    padding: usize,
    /// The next byte is the padding length.
    padded: bool,
    /// The remaining bytes of the deprecated priority.
    priority: usize,
    fields: Fields,
    heads: Arc<Heads>,
}

/// A pseudo-header field in trailers, which can be rejected only at the frame's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PseudoTrailer;

impl FieldSections {
    /// Creates the state of a connection whose requests are in `heads` until they are served.
    pub(super) fn new(heads: Arc<Heads>) -> Self {
        Self { heads, ..Self::default() }
    }

    /// Starts a HEADERS or CONTINUATION frame.
    pub(super) fn begin(&mut self, frame: Frame) {
        self.left = frame.length as usize;
        self.padding = 0;
        self.padded = false;
        self.priority = 0;
        if frame.kind == HEADERS {
            self.trailers = self.open.contains(&frame.stream);
            if frame.stream > self.newest {
                self.newest = frame.stream;
                self.heads.on_head_begun(frame.stream);
                self.open.insert(frame.stream);
                if self.open.len() > MAX_OPEN {
                    self.open.pop_first();
                }
            }
            self.padded = frame.flags & PADDED != 0;
            self.priority = if frame.flags & PRIORITY != 0 { 5 } else { 0 };
            self.fields.begin();
        }
    }

    /// Handles a received frame, which may start a field section.
    pub(super) fn on_frame_received(&mut self, frame: Frame) {
        let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
        if ends || frame.kind == RST_STREAM {
            self.open.remove(&frame.stream);
        }
        if frame.kind == RST_STREAM {
            self.heads.on_client_reset(frame.stream);
        }
    }

    /// The current header timed out.
    pub(super) fn expire(&mut self) {
        self.heads.expire(self.newest);
    }

    /// Handles a sent frame.
    pub(super) fn on_frame_sent(&mut self, frame: Frame) {
        if matches!(frame.kind, HEADERS | RST_STREAM) {
            self.heads.on_frame_sent(frame);
        }
        if frame.kind == RST_STREAM {
            self.open.remove(&frame.stream);
        }
    }

    /// Reads bytes of the payload; a `#` in `:path` is replaced.
    ///
    /// # Errors
    /// When trailers contain a pseudo-header field.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<(), PseudoTrailer> {
        let mut at = 0;
        if let (true, Some(length)) = (self.padded, bytes.first()) {
            self.padding = usize::from(*length);
            self.padded = false;
            at = 1;
        }
        let priority = self.priority.min(bytes.len() - at);
        self.priority -= priority;
        at += priority;
        let block = self.left.saturating_sub(at + self.padding).min(bytes.len() - at);
        self.left = self.left.saturating_sub(bytes.len());
        let pseudo = self.fields.read(&mut bytes[at..at + block]);
        if pseudo && self.trailers { Err(PseudoTrailer) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
