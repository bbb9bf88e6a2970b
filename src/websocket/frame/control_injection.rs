//! Positions for the gateway's control frames in a direction: between the frames of a message, never inside
//! one (§5.4).

use super::header::FrameHeader;
use super::{FrameParser, MAX_WITHHELD, Opcode};

impl FrameParser {
    /// Whether a control frame may be written now, after all fed bytes except the withheld ones. A caller
    /// that forwards withheld bytes must use [`FrameParser::at_boundary`].
    #[must_use]
    pub fn may_inject(&self) -> bool {
        self.left == 0 && !self.closed()
    }

    /// The number of `bytes`, the next to be fed, that complete the current frame; a control frame may be
    /// inserted after them. `None` if the frame does not end within `bytes` or is a Close, or if a Close has
    /// passed: bytes after a Close are not read.
    #[must_use]
    pub fn next_boundary(&self, bytes: &[u8]) -> Option<usize> {
        if self.closed() {
            return None;
        }
        let rest = match &self.held {
            None => usize::try_from(self.left).ok()?,
            Some(held) => rest_of_frame(held.as_slice(), bytes)?,
        };
        (rest <= bytes.len()).then_some(rest)
    }
}

/// The number of bytes of `next` that complete the frame in `held`.
fn rest_of_frame(held: &[u8], next: &[u8]) -> Option<usize> {
    let mut start = [0; MAX_WITHHELD + 1];
    let known = start.len().min(held.len() + next.len());
    start[..held.len()].copy_from_slice(held);
    start[held.len()..known].copy_from_slice(&next[..known - held.len()]);
    let head = FrameHeader::read(&start[..known])?;
    if head.opcode() == Opcode::Close {
        return None;
    }
    let whole = usize::try_from(head.length).ok()?.checked_add(head.size)?;
    whole.checked_sub(held.len())
}
