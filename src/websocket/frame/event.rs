//! What a follower reports. What to do about it is the relay's choice.

use super::Opcode;

/// One fact about the bytes just fed. Offsets count from the start of those bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame's head is complete. For a control frame: the whole of it has arrived.
    FrameStart {
        /// What the frame is.
        opcode: Opcode,
        /// The last frame of its message.
        fin: bool,
        /// The payload is masked.
        masked: bool,
        /// Payload length in wire bytes.
        length: u64,
        /// Offset of the frame's first byte; 0 when it came with an earlier feed.
        at: usize,
    },
    /// A control frame is complete. Its [`Event::FrameEnd`] follows.
    Control {
        /// Close, Ping or Pong.
        opcode: Opcode,
        /// The whole payload, unmasked, at most 125 bytes. [`Close::read`](super::Close::read) reads that of a Close.
        payload: &'a [u8],
        /// Offset of the frame's first byte; 0 when it came with an earlier feed.
        start: usize,
        /// Offset behind the frame's last byte.
        at: usize,
    },
    /// A frame is complete.
    FrameEnd {
        /// What the frame is.
        opcode: Opcode,
        /// The last frame of its message.
        fin: bool,
        /// Offset behind the frame's last byte: a boundary.
        at: usize,
    },
    /// A message is complete, its last frame included.
    MessageEnd {
        /// Text or Binary, from the message's first frame (§5.4).
        opcode: Opcode,
        /// Payload over all of its frames, in wire bytes.
        bytes: u64,
        /// How many frames it came in.
        frames: u32,
    },
}
