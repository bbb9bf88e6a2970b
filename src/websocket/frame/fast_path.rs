//! The usual case: what was read is one message in one frame, and nothing else. Nearly every small
//! message comes so, and then there is nothing to remember of it.

use super::header::FrameHeader;
use super::{FrameParser, Opcode, Rules};

impl FrameParser {
    /// Text or Binary when `bytes`, the next to be fed, are exactly one unfragmented message that breaks no
    /// rule: feeding them would tell of it and leave the follower as it is. `None` asks for them to be fed.
    #[inline]
    #[must_use]
    pub fn whole_message(&self, bytes: &[u8], rules: &Rules) -> Option<Opcode> {
        if self.left != 0 || self.held.is_some() || self.in_message() || self.closed() {
            return None;
        }
        let head = FrameHeader::read(bytes)?;
        let opcode = head.opcode();
        let alone = matches!(opcode, Opcode::Text | Opcode::Binary)
            && head.fin()
            && head.length == (bytes.len() - head.size) as u64;
        (alone && self.check(head, rules).is_ok()).then_some(opcode)
    }
}
