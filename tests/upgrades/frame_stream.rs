//! Frames of a WebSocket on a byte stream, read and written without an interpretation: reserved bits and fragments stay
//! as they are.

use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The first byte of a final frame, and that of a frame whose message is compressed (RFC 7692 §7).
pub(crate) const FINAL: u8 = 0x80;
pub(crate) const COMPRESSED: u8 = 0x40;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, payload: payload.into() }
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Appends the frame, as a client's with this key or as a server's.
    pub(crate) fn write(&self, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let masked = if key.is_some() { 0x80 } else { 0 };
        out.push(self.first);
        match (u8::try_from(self.payload.len()), u16::try_from(self.payload.len())) {
            (Ok(short @ ..=125), _) => out.push(masked | short),
            (_, Ok(middle)) => {
                out.push(masked | 126);
                out.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&(self.payload.len() as u64).to_be_bytes());
            }
        }
        out.extend(key.into_iter().flatten());
        let start = out.len();
        out.extend_from_slice(&self.payload);
        apply(key.unwrap_or_default(), &mut out[start..]);
    }
}

/// Masks or unmasks. A key of 0 takes no time in a build without optimization.
fn apply(key: [u8; 4], payload: &mut [u8]) {
    if key != [0; 4] {
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    source: R,
    ahead: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, ahead: BytesMut::new() }
    }

    /// Reads a header of HTTP, its empty line included.
    pub(crate) async fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Ok(String::from_utf8_lossy(&self.ahead.split_to(at + 4)).into_owned());
            }
            self.fill().await?;
        }
    }

    /// The next frame, unmasked. A call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Whether no part of a frame was read ahead.
    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.ahead.reserve(4 << 10);
        match self.source.read_buf(&mut self.ahead).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let (first, second) = (*self.ahead.first()?, *self.ahead.get(1)?);
        let (length, mut at) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(self.ahead.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(self.ahead.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let mut key = [0; 4];
        if second & 0x80 != 0 {
            key.copy_from_slice(self.ahead.get(at..at + 4)?);
            at += 4;
        }
        if self.ahead.len() < at + length {
            self.ahead.reserve(at + length - self.ahead.len());
            return None;
        }
        self.ahead.advance(at);
        let mut payload = self.ahead.split_to(length).to_vec();
        if self.ahead.is_empty() {
            // Thousands of idle readers keep no buffers.
            self.ahead = BytesMut::new();
        }
        apply(key, &mut payload);
        Some(Frame { first, payload })
    }
}
