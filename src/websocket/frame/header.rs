//! The head of a frame (§5.2): up to 14 bytes, read without judging them.

use super::mask::apply_mask;

/// The longest payload of a control frame (§5.5), in bytes.
pub const MAX_CONTROL: usize = 125;

/// What a frame is (§5.2, §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further frame of the message under way (§5.4).
    Continuation,
    /// The first or only frame of a text message (§5.6).
    Text,
    /// The first or only frame of a binary message (§5.6).
    Binary,
    /// The sender will send nothing more (§5.5.1).
    Close,
    /// Asks for a Pong with the same payload (§5.5.2).
    Ping,
    /// Answers a Ping, or comes unasked (§5.5.3).
    Pong,
    /// 3 to 7 or 11 to 15. Reported only when [`Rules::strict`](super::Rules) is off.
    Reserved,
}

impl Opcode {
    /// The opcode in the first byte of a frame.
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

    /// Close, Ping or Pong (§5.5).
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Where the payload of the frame at the start of `bytes` begins, and the key it is masked with; `None` while its
/// head is not all there. A payload that is not masked has a key of zeroes.
#[must_use]
pub fn payload_of(bytes: &[u8]) -> Option<(usize, [u8; 4])> {
    let head = FrameHeader::read(bytes)?;
    let key = bytes[..head.size].last_chunk().filter(|_| head.masked());
    Some((head.size, key.copied().unwrap_or_default()))
}

/// A complete head.
#[derive(Clone, Copy)]
pub(super) struct FrameHeader {
    /// FIN, RSV1 to RSV3 and the opcode, as on the wire.
    pub(super) first: u8,
    /// The mask bit and the 7-bit length, as on the wire.
    pub(super) second: u8,
    /// Bytes of the head itself, 2 to 14.
    pub(super) size: usize,
    /// Payload length in bytes.
    pub(super) length: u64,
}

impl FrameHeader {
    /// Reads the head at the start of `view`; `None` while it is not all there.
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

    /// The payload in the clear, which for a masked frame means unmasked into `clear`. `view` starts with this head.
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

    /// The length is written in more bytes than it needs.
    pub(super) fn length_is_padded(self) -> bool {
        match self.second & 0x7f {
            126 => self.length < 126,
            127 => self.length <= 0xffff,
            _ => false,
        }
    }
}
