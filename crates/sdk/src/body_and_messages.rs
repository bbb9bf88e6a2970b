//! What passes a plugin besides heads: pieces of bodies, WebSocket messages, and the end of a WebSocket.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A piece of a body on its way.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// Its bytes. Who takes them holds them back.
    pub bytes: Bytes,
    /// Whether nothing comes behind it.
    pub last: bool,
}

/// The way a WebSocket message goes.
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
    /// The way it goes.
    pub direction: Direction,
    /// Whether it is binary; otherwise it is text, and must be UTF-8 when it goes on (RFC 6455 §5.6).
    pub binary: bool,
    /// Its payload.
    pub payload: BytesMut,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum MessageVerdict {
    /// It goes on, as the plugin left it.
    Forward,
    /// It goes no further.
    Drop,
    /// It goes no further, and the WebSocket ends with this Close to both sides.
    Close {
        /// The status code (RFC 6455 §7.4): 1000, 1001, 1003, 1007 to 1014 or 3000 to 4999.
        code: u16,
        /// Why, in at most 123 bytes.
        reason: Cow<'static, str>,
    },
    /// The plugin could not do its work; the entry's `on_error` decides: 1011, or as if it were not there.
    Failed(Fault),
}

/// How a WebSocket ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The status code of its Close; 1006 when there was none.
    pub code: u16,
    /// Why, as the access log says it.
    pub reason: &'a str,
    /// How long it lived.
    pub lifetime: Duration,
    /// Messages to the backend and to the client.
    pub messages: [u64; 2],
    /// Bytes to the backend and to the client.
    pub bytes: [u64; 2],
}

/// A plugin could not do its work: a script's error, a module's trap, a service that did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Cow<'static, str>);

impl Fault {
    /// A fault with what the operator should read in the log.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl Fault {
    /// The same at compile time.
    pub const fn fixed(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}
