//! Field sections of a client on their way to h2, for two rules of RFC 9113 that h2 does not hold: trailers have no
//! pseudo-header fields (§8.1), and a `:path` has no fragment (§8.3.1). h2 leaves out what breaks them, so nothing after
//! it can tell.
//!
//! Frames and their order are h2's to judge.

use super::frame_scan::{DATA, Frame, HEADERS, RST_STREAM};
use super::hpack_scan::Fields;
use super::refused_heads::Heads;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The flags of HEADERS (RFC 9113 §6.2).
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The flag of HEADERS and DATA that ends the client's direction of a stream.
const END_STREAM: u8 = 0x1;

/// Streams that are remembered as open. h2 lets a client have fewer.
const MAX_OPEN: usize = 256;

/// The field sections of one connection.
#[derive(Default)]
pub(super) struct Sections {
    /// The last stream that the client has opened.
    newest: u32,
    /// The streams whose client may still send: HEADERS on another one are no trailers, and h2 says so.
    open: BTreeSet<u32>,
    /// The section under way is of trailers.
    trailers: bool,
    /// Bytes of the frame's payload that are still to come, its padding included.
    left: usize,
    padding: usize,
    /// The next byte says how much padding there is.
    padded: bool,
    /// Bytes of the deprecated priority that are still to come.
    priority: usize,
    fields: Fields,
    heads: Arc<Heads>,
}

/// What a section has that it must not have, and that only its frame's end can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PseudoTrailer;

impl Sections {
    /// For a connection whose requests are found in `heads` until they are served.
    pub(super) fn new(heads: Arc<Heads>) -> Self {
        Self { heads, ..Self::default() }
    }

    /// A frame of HEADERS or CONTINUATION begins.
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

    /// A frame came, the beginning of a field section among others.
    pub(super) fn on_frame_received(&mut self, frame: Frame) {
        let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
        if ends || frame.kind == RST_STREAM {
            self.open.remove(&frame.stream);
        }
        if frame.kind == RST_STREAM {
            self.heads.on_client_reset(frame.stream);
        }
    }

    /// The head under way does not come to its end.
    pub(super) fn expire(&mut self) {
        self.heads.expire(self.newest);
    }

    /// A frame of ours went out.
    pub(super) fn on_frame_sent(&mut self, frame: Frame) {
        if matches!(frame.kind, HEADERS | RST_STREAM) {
            self.heads.on_frame_sent(frame);
        }
        if frame.kind == RST_STREAM {
            self.open.remove(&frame.stream);
        }
    }

    /// Bytes of its payload; a `#` in a `:path` is replaced.
    ///
    /// # Errors
    /// When there is a pseudo-header field in trailers.
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
