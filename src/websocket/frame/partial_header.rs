//! Partial header: the start of a frame at the end of a feed, kept for the next feed.

use super::MAX_CONTROL;

/// The most bytes that a parser withholds: a masked control frame of full size without its last byte.
pub const MAX_WITHHELD: usize = MAX_HELD - 1;

/// The largest control frame: two bytes, a key, 125 bytes. No header is longer.
const MAX_HELD: usize = 6 + MAX_CONTROL;

/// The start of a header or of a control frame.
#[derive(Clone, Debug)]
pub(super) struct PartialHeader {
    length: u8,
    bytes: [u8; MAX_HELD],
}

impl PartialHeader {
    /// Keeps the start of a frame, less than [`MAX_HELD`] bytes.
    #[cold]
    pub(super) fn new(start: &[u8]) -> Box<Self> {
        let mut held = Box::new(Self { length: 0, bytes: [0; MAX_HELD] });
        held.fill(start);
        held
    }

    /// Appends as much of `more` as fits: enough for any header and any control frame.
    pub(super) fn fill(&mut self, more: &[u8]) {
        let (from, room) = (usize::from(self.length), MAX_HELD - usize::from(self.length));
        let taken = more.len().min(room);
        self.bytes[from..from + taken].copy_from_slice(&more[..taken]);
        self.length += taken as u8;
    }

    /// Drops all but the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length as u8);
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
