//! Body pieces, WebSocket messages, and the end of a WebSocket, as plugins see them.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A piece of a body.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// Its bytes. A plugin that takes them holds them back.
    pub bytes: Bytes,
    /// Whether it is the last piece.
    pub last: bool,
}

/// The direction of a WebSocket message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    ToBackend,
    /// From the backend.
    ToClient,
}

/// A whole WebSocket message: unmasked, uncompressed and in one piece.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its direction.
    pub direction: Direction,
    /// Whether it is binary; otherwise it is text, and must be UTF-8 when it is forwarded (RFC 6455 §5.6).
    pub binary: bool,
    /// Its payload.
    pub payload: BytesMut,
}

/// The close codes that a plugin may choose, as texts name them.
pub const CHOSEN_CLOSE_CODES: &str = "1000, 1001, 1003, 1007 to 1013 or 3000 to 4999";

/// Returns whether a plugin may choose a close code (RFC 6455 §7.4). 1002 is the gateway's, for violations of the protocol.
/// 1014 is registered, but several client libraries take it for a violation.
#[must_use]
pub const fn may_choose_close_code(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1003 | 1007..=1013 | 3000..=4999)
}

/// A plugin's decision about a message.
#[derive(Debug)]
pub enum MessageVerdict {
    /// Forwards the message as the plugin left it.
    Forward,
    /// Drops the message.
    Drop,
    /// Drops the message and closes the WebSocket, with this Close frame to both sides.
    Close {
        /// The status code (RFC 6455 §7.4): one of [`CHOSEN_CLOSE_CODES`].
        code: u16,
        /// The reason, of at most 123 bytes.
        reason: Cow<'static, str>,
    },
    /// The plugin failed; the entry's `on_error` decides: close with 1011, or continue without the plugin.
    Failed(Fault),
}

/// The end of a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketEnd<'a> {
    /// The status code of its Close frame; 1006 without one.
    pub code: u16,
    /// The reason, as in the access log.
    pub reason: &'a str,
    /// Its lifetime.
    pub lifetime: Duration,
    /// Messages to the backend and to the client.
    pub messages: [u64; 2],
    /// Bytes to the backend and to the client.
    pub bytes: [u64; 2],
}

/// A plugin's failure: a script's error, a module's trap, a service that did not respond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Cow<'static, str>);

impl Fault {
    /// A fault with a message for the operator's log.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl Fault {
    /// The same at compile time.
    pub const fn fixed(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }

    /// The message, if it is one of the code and not of a request or a script.
    pub fn fixed_message(&self) -> Option<&'static str> {
        match self.0 {
            Cow::Borrowed(message) => Some(message),
            Cow::Owned(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}
