//! Where a control frame of the gateway may enter a direction (§5.4: between the frames of a message, never inside
//! one). What enters is `write.rs`'s, when is the relay's.

use super::header::FrameHeader;
use super::{FrameParser, MAX_WITHHELD, Opcode};

impl FrameParser {
    /// Whether a control frame may be written now, behind everything fed except the withheld bytes. For a caller that
    /// passes on the withheld bytes as well, [`Follower::at_boundary`] is the question.
    #[must_use]
    pub fn may_inject(&self) -> bool {
        self.left == 0 && !self.closed()
    }

    /// How many of `bytes`, the next to be fed, still belong to the frame under way: behind them a control frame may
    /// enter. `None` when that frame does not end within `bytes`, when it is a Close, or when a Close has passed:
    /// behind a Close nothing is read any more.
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

/// How much of `next` completes the frame that `held` starts.
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
