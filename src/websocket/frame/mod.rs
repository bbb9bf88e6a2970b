//! Follows WebSocket frames (RFC 6455 §5) in bytes that pass, and writes the gateway's own control frames.
//!
//! A [`Follower`] is told of every byte of one direction, however the network split them, and answers with
//! [`Event`]s: where frames begin and end, when a message is complete, what a control frame says, and the first
//! breach of the protocol. It reads heads and control payloads only; the payload of a data frame is stepped over
//! by arithmetic, neither read, unmasked nor copied, so a message costs the same whatever its size.
//!
//! What stays out: sockets, clocks, policy beyond the two size limits, the payload of messages (§8.1: whether a text
//! message is UTF-8 is for its receiver to judge, which `messages` is where somebody looks at it), and extensions (with permessage-deflate agreed, RSV1 is let
//! through where RFC 7692 §6 puts it, and every count is of wire bytes).

mod close;
mod control_injection;
mod encode;
mod event;
mod fast_path;
mod frame_error;
mod frame_parser;
mod frame_rules;
mod header;
mod mask;
mod partial_header;

pub use close::{Close, NO_STATUS, may_be_sent};
pub use encode::{ControlFrame, write_message};
pub use event::Event;
pub use frame_error::{FrameError, Violation};
pub use frame_parser::FrameParser;
pub use header::{MAX_CONTROL, Opcode, payload_of};
pub use mask::{Mask, apply_mask};
pub use partial_header::MAX_WITHHELD;

/// Whose frames a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Frames of a client, every one of them masked (§5.1, §5.3).
    Client,
    /// Frames of a server, none of them masked (§5.1).
    Server,
}

/// What a direction allows. One value serves every tunnel of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest payload of one data frame, in wire bytes; beyond it 1009. `u64::MAX` is no limit.
    pub max_frame: u64,
    /// The longest message over all of its frames, in wire bytes; beyond it 1009. `u64::MAX` is no limit.
    pub max_message: u64,
    /// permessage-deflate was agreed in the handshake: RSV1 is legal on the first frame of a message (RFC 7692 §6).
    pub deflate: bool,
    /// Breaches of the protocol are violations. When false they are followed as well as their lengths allow
    /// (`invalid_frames: pass`); the two limits hold either way. An extension other than permessage-deflate may give
    /// reserved bits and opcodes a meaning (§5.8): where one was agreed, this is to be off.
    pub strict: bool,
}

impl Default for Rules {
    /// Strict, without extensions and without limits.
    fn default() -> Self {
        Self { max_frame: u64::MAX, max_message: u64::MAX, deflate: false, strict: true }
    }
}

#[cfg(test)]
mod tests;
