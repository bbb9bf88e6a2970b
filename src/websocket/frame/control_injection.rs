//! Positions for the gateway's control frames in a direction: between the frames of a message, never inside
//! one (§5.4).

use super::FrameParser;

impl FrameParser {
    /// Whether a control frame may be written now, after all fed bytes except the withheld ones.
    #[must_use]
    pub fn may_inject(&self) -> bool {
        self.left == 0 && !self.closed()
    }
}
