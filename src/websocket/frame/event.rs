//! Events of the frame parser.

use super::Opcode;

/// A fact about the fed bytes. Offsets count from the start of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame's header is complete. For a control frame, the whole frame is.
    FrameStart {
        /// The opcode.
        opcode: Opcode,
        /// Whether it is the last frame of its message.
        fin: bool,
        /// Whether the payload is masked.
        masked: bool,
        /// The payload length in wire bytes.
        length: u64,
        /// The offset of the frame's first byte; 0 if it was in an earlier feed.
        at: usize,
    },
    /// A control frame is complete. Its [`Event::FrameEnd`] follows.
    Control {
        /// Close, Ping or Pong.
        opcode: Opcode,
        /// The whole payload, unmasked, at most 125 bytes. [`Close::read`](super::Close::read) reads that of a Close.
        payload: &'a [u8],
        /// The offset of the frame's first byte; 0 if it was in an earlier feed.
        start: usize,
        /// The offset after the frame's last byte.
        at: usize,
    },
    /// A frame is complete.
    FrameEnd {
        /// The opcode.
        opcode: Opcode,
        /// Whether it is the last frame of its message.
        fin: bool,
        /// The offset after the frame's last byte: a frame boundary.
        at: usize,
    },
    /// A message is complete with its last frame.
    MessageEnd {
        /// Text or Binary, from the message's first frame (§5.4).
        opcode: Opcode,
        /// The payload of all frames in wire bytes.
        bytes: u64,
        /// The number of frames.
        frames: u32,
    },
}
