//! Frame headers (§5.2): up to 14 bytes, parsed without validation.

use super::mask::apply_mask;

/// The longest payload of a control frame (§5.5), in bytes.
pub const MAX_CONTROL: usize = 125;

/// The opcode of a frame (§5.2, §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A later frame of a message (§5.4).
    Continuation,
    /// The first or only frame of a text message (§5.6).
    Text,
    /// The first or only frame of a binary message (§5.6).
    Binary,
    /// The end of the sender's direction (§5.5.1).
    Close,
    /// A request for a Pong with the same payload (§5.5.2).
    Ping,
    /// The response to a Ping, or an unsolicited Pong (§5.5.3).
    Pong,
    /// 3 to 7 or 11 to 15. Reported only with [`Rules::strict`](super::Rules) off.
    Reserved,
}

impl Opcode {
    /// The opcode in a frame's first byte.
    pub(super) fn of(first: u8) -> Self {
        match first & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => Self::Reserved,
        }
    }

    /// Whether it is Close, Ping or Pong (§5.5).
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The offset of the payload of the frame at the start of `bytes`, and the masking key; `None` if the header
/// is incomplete. An unmasked payload has a key of zeros.
#[must_use]
pub fn payload_of(bytes: &[u8]) -> Option<(usize, [u8; 4])> {
    let head = FrameHeader::read(bytes)?;
    let key = bytes[..head.size].last_chunk().filter(|_| head.masked());
    Some((head.size, key.copied().unwrap_or_default()))
}

/// A complete header.
#[derive(Clone, Copy)]
pub(super) struct FrameHeader {
    /// FIN, RSV1 to RSV3 and the opcode, as on the wire.
    pub(super) first: u8,
    /// The mask bit and the 7-bit length, as on the wire.
    pub(super) second: u8,
    /// The header's length in bytes, 2 to 14.
    pub(super) size: usize,
    /// Payload length in bytes.
    pub(super) length: u64,
}

impl FrameHeader {
    /// Parses the header at the start of `view`; `None` if it is incomplete.
    #[inline]
    pub(super) fn read(view: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = view else { return None };
        let (extended, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
            short => (0, u64::from(short)),
        };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let size = 2 + extended + key;
        (view.len() >= size).then_some(Self { first: *first, second: *second, size, length })
    }

    pub(super) fn opcode(self) -> Opcode {
        Opcode::of(self.first)
    }

    pub(super) fn fin(self) -> bool {
        self.first & 0x80 != 0
    }

    pub(super) fn masked(self) -> bool {
        self.second & 0x80 != 0
    }

    /// The unmasked payload; that of a masked frame is unmasked into `clear`. `view` starts with this header.
    pub(super) fn unmask<'a>(
        self,
        view: &[u8],
        payload: &'a [u8],
        clear: &'a mut [u8; MAX_CONTROL],
    ) -> &'a [u8] {
        let (true, Some(key)) = (self.masked(), view[..self.size].last_chunk()) else { return payload };
        let clear = &mut clear[..payload.len()];
        clear.copy_from_slice(payload);
        apply_mask(clear, *key);
        clear
    }

    /// Whether the length has more bytes than necessary.
    pub(super) fn length_is_padded(self) -> bool {
        match self.second & 0x7f {
            126 => self.length < 126,
            127 => self.length <= 0xffff,
            _ => false,
        }
    }
}
