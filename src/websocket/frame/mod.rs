//! WebSocket frames (RFC 6455 §5): a parser for relayed bytes, and encoding of the gateway's own frames.
//!
//! A [`FrameParser`] is fed every byte of one direction, split in any way, and returns [`Event`]s: starts and
//! ends of frames, complete messages, control frames, and the first violation. It reads headers and control
//! payloads only. The payload of a data frame is skipped by arithmetic, not read, unmasked or copied, so the
//! cost of a message does not depend on its size.
//!
//! Message payloads are not validated (§8.1: UTF-8 is for the receiver, or for `messages` if plugins read
//! messages). Extensions are not implemented: with permessage-deflate, RSV1 is accepted where RFC 7692 §6
//! allows it, and all counts are in wire bytes.

mod close;
mod encode;
mod event;
mod frame_error;
mod frame_parser;
mod frame_rules;
mod header;
mod mask;
mod parser_state;
mod partial_header;

pub use close::{Close, NO_STATUS, may_be_sent};
pub use encode::{ControlFrame, write_message};
pub use event::Event;
pub use frame_error::{FrameError, Violation};
pub use frame_parser::FrameParser;
pub use header::{MAX_CONTROL, Opcode, payload_of};
pub use mask::{Mask, apply_mask};
pub use parser_state::ParserState;
pub use partial_header::MAX_WITHHELD;

/// The sender of a direction's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client: every frame is masked (§5.1, §5.3).
    Client,
    /// A server: no frame is masked (§5.1).
    Server,
}

/// The rules of a direction, shared by all tunnels of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest payload of a data frame in wire bytes, beyond which it is closed with 1009. `u64::MAX`
    /// means no limit.
    pub max_frame: u64,
    /// The longest message over all frames in wire bytes, beyond which it is closed with 1009. `u64::MAX`
    /// means no limit.
    pub max_message: u64,
    /// Whether permessage-deflate was negotiated: RSV1 is valid on the first frame of a message (RFC 7692
    /// §6).
    pub deflate: bool,
    /// Whether protocol violations are errors. If false (`invalid_frames: pass`), invalid frames are parsed
    /// as far as their lengths allow; both limits still apply. With an extension other than
    /// permessage-deflate, which may define reserved bits and opcodes (§5.8), this must be false.
    pub strict: bool,
}

impl Default for Rules {
    /// Strict, without extensions and limits.
    fn default() -> Self {
        Self { max_frame: u64::MAX, max_message: u64::MAX, deflate: false, strict: true }
    }
}

#[cfg(test)]
mod tests;
