//! Protocol violations of frames, with their close codes (§7.4.1). The relay sends the Close.

use thiserror::Error;

/// The first violation in a direction: bytes before `at` are valid and may be forwarded, later bytes are
/// ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct Violation {
    /// The offset of the invalid frame in the feed; 0 if it started in an earlier feed.
    pub at: usize,
    /// The close code: 1002, 1007 or 1009.
    pub code: u16,
    /// The violation.
    pub what: FrameError,
}

impl Violation {
    pub(super) fn new(at: usize, what: FrameError) -> Self {
        Self { at, code: what.close_code(), what }
    }
}

/// A violation of RFC 6455. The text fits a Close reason (123 bytes) and a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// RSV1, RSV2 or RSV3 without an extension that defines it (§5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode from 3 to 7 or 11 to 15 (§5.2).
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// An unmasked frame of a client (§5.1).
    #[error("frame of a client is not masked")]
    Unmasked,
    /// A masked frame of a server (§5.1).
    #[error("frame of a server is masked")]
    Masked,
    /// A control frame without FIN (§5.5).
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame with a payload above 125 bytes (§5.5).
    #[error("control frame is longer than 125 bytes")]
    LongControl,
    /// A length in more bytes than necessary (§5.2).
    #[error("length is not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length with the top bit set (§5.2).
    #[error("length is 2^63 bytes or more")]
    LengthTopBit,
    /// A continuation without a message to continue (§5.4).
    #[error("continuation without a message")]
    LoneContinuation,
    /// A text or binary frame within a fragmented message (§5.4).
    #[error("new message inside a fragmented one")]
    InterleavedMessage,
    /// A Close with a body of one byte (§5.5.1).
    #[error("close body of one byte")]
    CloseBody,
    /// A Close with a code that must not be sent (§7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// A Close with a reason that is not UTF-8 (§5.5.1).
    #[error("close reason is not UTF-8")]
    CloseReason,
    /// A text message that is not UTF-8 (§8.1), if plugins read messages.
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
    /// The close code of §7.4.1: 1007 for data that does not match its type, 1009 for a message that is too
    /// big, 1002 otherwise.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::CloseReason | Self::Text => 1007,
            Self::FrameTooBig | Self::MessageTooBig => 1009,
            _ => 1002,
        }
    }
}
