//! Which heads are legal where (§5.1 to §5.5), and the two size limits. The body of a Close is `close.rs`'s to judge.

use super::head::Head;
use super::{Follower, MAX_CONTROL, Opcode, Rules, Sender, Wrong};

const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;

impl Follower {
    /// Judges a head by what came before it. Breaches of the protocol come before the limits: a frame that is both
    /// malformed and too big is malformed.
    #[inline]
    pub(super) fn check(&self, head: Head, rules: &Rules) -> Result<(), Wrong> {
        if rules.strict {
            self.check_protocol(head, rules)?;
        }
        self.check_size(head, rules)
    }

    #[inline]
    fn check_protocol(&self, head: Head, rules: &Rules) -> Result<(), Wrong> {
        let opcode = head.opcode();
        // RFC 7692 §6.1: neither on control frames nor on the later frames of a message.
        let first_of_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        let meaningful = if rules.deflate && first_of_message { RSV1 } else { 0 };
        if head.first & RSV & !meaningful != 0 {
            return Err(Wrong::ReservedBits);
        }
        match (self.sender, head.masked()) {
            (Sender::Client, true) | (Sender::Server, false) => {}
            (Sender::Client, false) => return Err(Wrong::Unmasked),
            (Sender::Server, true) => return Err(Wrong::Masked),
        }
        match opcode {
            Opcode::Reserved => return Err(Wrong::ReservedOpcode(head.first & 0x0f)),
            Opcode::Continuation if !self.in_message() => return Err(Wrong::LoneContinuation),
            Opcode::Text | Opcode::Binary if self.in_message() => return Err(Wrong::InterleavedMessage),
            Opcode::Close | Opcode::Ping | Opcode::Pong if !head.fin() => {
                return Err(Wrong::FragmentedControl);
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong if head.length > MAX_CONTROL as u64 => {
                return Err(Wrong::LongControl);
            }
            _ => {}
        }
        if head.length >> 63 != 0 {
            return Err(Wrong::LengthTopBit);
        }
        if head.length_is_padded() {
            return Err(Wrong::LengthNotMinimal);
        }
        Ok(())
    }

    /// Control frames are free of the limits: they are short, and a Close must always get through.
    #[inline]
    fn check_size(&self, head: Head, rules: &Rules) -> Result<(), Wrong> {
        let before = match head.opcode() {
            Opcode::Text | Opcode::Binary => 0,
            Opcode::Continuation => self.message_bytes(),
            Opcode::Close | Opcode::Ping | Opcode::Pong | Opcode::Reserved => return Ok(()),
        };
        if head.length > rules.max_frame {
            return Err(Wrong::FrameTooBig);
        }
        if before.saturating_add(head.length) > rules.max_message {
            return Err(Wrong::MessageTooBig);
        }
        Ok(())
    }
}
