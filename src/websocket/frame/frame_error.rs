//! What can be wrong with a frame, and the close code that says so (§7.4.1). Answering with it is the relay's work.

use thiserror::Error;

/// The first breach in a direction: everything before `at` is good and may be passed on, nothing behind it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct Violation {
    /// Offset in the fed bytes at which the offending frame starts; 0 when it had started in an earlier feed.
    pub at: usize,
    /// The close code to answer with: 1002, 1007 or 1009.
    pub code: u16,
    /// The breach itself.
    pub what: FrameError,
}

impl Violation {
    pub(super) fn new(at: usize, what: FrameError) -> Self {
        Self { at, code: what.close_code(), what }
    }
}

/// A breach of RFC 6455 by a frame. The wording fits a Close reason (123 bytes) and a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// RSV1, RSV2 or RSV3 without an extension that gives it a meaning (§5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode among 3 to 7 or 11 to 15 (§5.2).
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// A client's frame without a mask (§5.1).
    #[error("frame of a client is not masked")]
    Unmasked,
    /// A server's frame with a mask (§5.1).
    #[error("frame of a server is masked")]
    Masked,
    /// A control frame without FIN (§5.5).
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame whose payload is longer than 125 bytes (§5.5).
    #[error("control frame is longer than 125 bytes")]
    LongControl,
    /// A length written in more bytes than it needs (§5.2).
    #[error("length is not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length whose top bit is set (§5.2).
    #[error("length is 2^63 bytes or more")]
    LengthTopBit,
    /// A continuation without a message to continue (§5.4).
    #[error("continuation without a message")]
    LoneContinuation,
    /// A text or binary frame inside a fragmented message (§5.4).
    #[error("new message inside a fragmented one")]
    InterleavedMessage,
    /// A Close whose body is a single byte (§5.5.1).
    #[error("close body of one byte")]
    CloseBody,
    /// A Close with a code that must not be sent (§7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// A Close whose reason is not UTF-8 (§5.5.1).
    #[error("close reason is not UTF-8")]
    CloseReason,
    /// A text message that is not UTF-8 (§8.1), where somebody looks at it.
    #[error("text is not UTF-8")]
    Text,
    /// A data frame longer than [`Rules::max_frame`](super::Rules).
    #[error("frame is too big")]
    FrameTooBig,
    /// A message longer than [`Rules::max_message`](super::Rules).
    #[error("message is too big")]
    MessageTooBig,
}

impl FrameError {
    /// The code of §7.4.1 for the Close that answers this: 1007 for data that is not what its type says, 1009 for a
    /// message too big to process, 1002 for everything else.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::CloseReason | Self::Text => 1007,
            Self::FrameTooBig | Self::MessageTooBig => 1009,
            _ => 1002,
        }
    }
}
