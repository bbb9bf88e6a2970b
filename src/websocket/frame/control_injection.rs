//! Where a control frame of the gateway may enter a direction (§5.4: between the frames of a message, never inside
//! one). What enters is `write.rs`'s, when is the relay's.

use super::FrameParser;

impl FrameParser {
    /// Whether a control frame may be written now, behind everything fed except the withheld bytes.
    #[must_use]
    pub fn may_inject(&self) -> bool {
        self.left == 0 && !self.closed()
    }
}
