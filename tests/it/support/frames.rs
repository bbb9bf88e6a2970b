//! HTTP/2 client or server on the level of bytes: it can send any frame, and reads received frames one by one. Field
//! sections are literals and never indexed, so that the test controls every octet.

use super::LIMIT;
use super::raw::Wire;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The four octets at an offset of the payload.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response, if it comes first and is not in HPACK's dynamic table (RFC 7541, appendix A and B);
    /// otherwise 0.
    pub(crate) fn status(&self) -> u16 {
        // A table size update may come first.
        let start = self.payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or_default();
        match &self.payload[start..] {
            [0x88, ..] => 200,
            [0x89, ..] => 204,
            [0x8b, ..] => 304,
            [0x8c, ..] => 400,
            [0x8d, ..] => 404,
            [0x8e, ..] => 500,
            // A literal with the name :status, and a value in Huffman code.
            [0x08 | 0x48, length, value @ ..] if length & 0x80 != 0 => {
                digits(value.get(..usize::from(length & 0x7f)).unwrap_or_default())
            }
            _ => 0,
        }
    }
}

/// Three digits in HPACK's Huffman code: 0 to 2 have five bits, 3 to 9 six.
fn digits(code: &[u8]) -> u16 {
    let bits: Vec<u8> = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |number, bit| number << 1 | u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let Some(short) = bits.get(at..at + 5).map(number) else { return 0 };
        if short <= 2 {
            (at, value) = (at + 5, value * 10 + short);
        } else {
            let Some(long) = bits.get(at..at + 6).map(number).filter(|long| (0x19..=0x1f).contains(long))
            else {
                return 0;
            };
            (at, value) = (at + 6, value * 10 + long - 0x19 + 3);
        }
    }
    value
}

/// A frame to send.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK literals.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        bytes.push(length as u8);
        return;
    }
    bytes.push(127);
    let mut left = length - 127;
    while left >= 128 {
        bytes.push((left % 128) as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
}

/// The fields of a request.
pub(crate) fn request<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)];
    fields.extend(more);
    fields
}

/// A connection.
pub(crate) struct Frames {
    wire: Wire,
}

impl Frames {
    /// Connects and sends nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address) }
    }

    /// Connects, and sends preface and settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with(address, &[])
    }

    /// The same with settings, each an identifier and its value.
    pub(crate) fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self::silent(address);
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send([PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        frames
    }

    /// The other side of a client's connection: reads the preface, and sends settings.
    pub(crate) fn accept(stream: TcpStream) -> io::Result<Self> {
        let mut frames = Self { wire: Wire::of(stream) };
        frames.wire.exactly(PREFACE.len())?;
        frames.try_send(frame(SETTINGS, 0, 0, &[]))?;
        Ok(frames)
    }

    /// Ends the connection, and reads what still arrives.
    pub(crate) fn end(&mut self) {
        self.wire.half_close();
        while self.next().is_ok() {}
    }

    /// Sets the time limit of reads.
    pub(crate) fn patience(&self, limit: Duration) {
        self.wire.patience(limit);
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
    }

    /// Sends these bytes, if the connection is open.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.try_send(bytes)
    }

    /// Sends a frame.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(frame(kind, flags, stream, payload));
    }

    /// Sends a request header.
    pub(crate) fn head(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &section(fields));
    }

    /// The same over as many frames as needed.
    pub(crate) fn long_head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let block = section(fields);
        let mut parts = block.chunks(16 << 10).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { END_STREAM | end } else { end };
            self.frame(kind, flags, stream, part);
            kind = CONTINUATION;
        }
    }

    /// The next frame; an error if the connection ended or nothing arrived in time.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let head = self.wire.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload: self.wire.exactly(length)? })
    }

    /// The next frame of that type.
    pub(crate) fn next_of(&mut self, kind: u8) -> Frame {
        self.find(|frame| frame.kind == kind).unwrap_or_else(|e| panic!("no frame of type {kind}: {e}"))
    }

    /// The next frame of that type on that stream.
    pub(crate) fn next_on(&mut self, kind: u8, stream: u32) -> Frame {
        self.find(|frame| frame.kind == kind && frame.stream == stream)
            .unwrap_or_else(|e| panic!("no frame of type {kind} on {stream}: {e}"))
    }

    fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Every frame up to the connection's end, which must arrive.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        self.patience(LIMIT);
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Ok(frame) => frames.push(frame),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the connection stays open, behind {frames:?}")
                }
                Err(_) => return frames,
            }
        }
    }

    /// Returns whether the other side still responds.
    pub(crate) fn lives(&mut self) -> bool {
        let token = [7; 8];
        self.try_send(frame(PING, 0, 0, &token)).is_ok()
            && self.find(|frame| frame.kind == PING && frame.flags == ACK && frame.payload == token).is_ok()
    }
}
