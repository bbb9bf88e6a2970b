//! Fast path: the bytes are exactly one message in one frame, as most small messages are, so no state
//! changes.

use super::header::FrameHeader;
use super::{FrameParser, Opcode, Rules};

impl FrameParser {
    /// Text or Binary if `bytes`, the next to be fed, are exactly one valid unfragmented message: feeding
    /// them would only report it, without a change of state. `None` means that they must be fed.
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
