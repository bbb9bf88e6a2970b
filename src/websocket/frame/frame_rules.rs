//! Validity rules of frame headers (§5.1 to §5.5), and the two size limits. `close` validates the body of a
//! Close.

use super::header::FrameHeader;
use super::{FrameError, FrameParser, MAX_CONTROL, Opcode, Rules, Sender};

const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;

impl FrameParser {
    /// Validates a header after the previous frames. Protocol errors come before size limits: a malformed
    /// frame that is too big is malformed.
    #[inline]
    pub(super) fn check(&self, head: FrameHeader, rules: &Rules) -> Result<(), FrameError> {
        if rules.strict {
            self.check_protocol(head, rules)?;
        }
        self.check_size(head, rules)
    }

    #[inline]
    fn check_protocol(&self, head: FrameHeader, rules: &Rules) -> Result<(), FrameError> {
        let opcode = head.opcode();
        // RFC 7692 §6.1: not on control frames and later frames of a message.
        let first_of_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        let meaningful = if rules.deflate && first_of_message { RSV1 } else { 0 };
        if head.first & RSV & !meaningful != 0 {
            return Err(FrameError::ReservedBits);
        }
        match (self.sender, head.masked()) {
            (Sender::Client, true) | (Sender::Server, false) => {}
            (Sender::Client, false) => return Err(FrameError::Unmasked),
            (Sender::Server, true) => return Err(FrameError::Masked),
        }
        match opcode {
            Opcode::Reserved => return Err(FrameError::ReservedOpcode(head.first & 0x0f)),
            Opcode::Continuation if !self.in_message() => return Err(FrameError::LoneContinuation),
            Opcode::Text | Opcode::Binary if self.in_message() => return Err(FrameError::InterleavedMessage),
            Opcode::Close | Opcode::Ping | Opcode::Pong if !head.fin() => {
                return Err(FrameError::FragmentedControl);
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong if head.length > MAX_CONTROL as u64 => {
                return Err(FrameError::LongControl);
            }
            _ => {}
        }
        if head.length >> 63 != 0 {
            return Err(FrameError::LengthTopBit);
        }
        if head.length_is_padded() {
            return Err(FrameError::LengthNotMinimal);
        }
        Ok(())
    }

    /// Control frames have no size limit: they are short, and a Close must always pass.
    #[inline]
    fn check_size(&self, head: FrameHeader, rules: &Rules) -> Result<(), FrameError> {
        let before = match head.opcode() {
            Opcode::Text | Opcode::Binary => 0,
            Opcode::Continuation => self.message_bytes(),
            Opcode::Close | Opcode::Ping | Opcode::Pong | Opcode::Reserved => return Ok(()),
        };
        if head.length > rules.max_frame {
            return Err(FrameError::FrameTooBig);
        }
        if before.saturating_add(head.length) > rules.max_message {
            return Err(FrameError::MessageTooBig);
        }
        Ok(())
    }
}
