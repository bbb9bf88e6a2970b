//! A minimal HTTP/2 client (RFC 9113) for endless equal requests: header blocks without a dynamic table or Huffman
//! coding. Of a response only the status is read.

use crate::http;
use std::io;

/// The length of a frame's header.
const HEADER_LENGTH: usize = 9;

/// The largest frame without a SETTINGS_MAX_FRAME_SIZE of the peer (RFC 9113 §4.2).
const MAX_FRAME_SIZE: usize = 16 << 10;

/// The type of DATA.
pub(crate) const DATA: u8 = 0;
/// The type of HEADERS.
pub(crate) const HEADERS: u8 = 1;
/// The type of RST_STREAM.
pub(crate) const RST_STREAM: u8 = 3;
/// The type of SETTINGS.
pub(crate) const SETTINGS: u8 = 4;
/// The type of PING.
pub(crate) const PING: u8 = 6;
/// The type of GOAWAY.
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Nothing follows on the stream. On SETTINGS and PING the flag means an acknowledgement.
pub(crate) const END_STREAM: u8 = 1;
/// See [`END_STREAM`].
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Its type.
    pub(crate) kind: u8,
    /// Its flags.
    pub(crate) flags: u8,
    /// Its stream; 0 is the connection.
    pub(crate) stream: u32,
    /// Its payload.
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The frame's bytes on the wire.
    pub(crate) fn size(&self) -> usize {
        HEADER_LENGTH + self.payload.len()
    }
}

/// Appends a frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let length = frame.payload.len() as u32;
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[frame.kind, frame.flags]);
    out.extend_from_slice(&frame.stream.to_be_bytes());
    out.extend_from_slice(frame.payload);
}

/// The frame at the beginning of `bytes`, once it is complete.
///
/// # Errors
/// The frame is larger than allowed.
pub(crate) fn parse_frame(bytes: &[u8]) -> io::Result<Option<Frame<'_>>> {
    let Some(([a, b, c, kind, flags, stream @ ..], rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > MAX_FRAME_SIZE {
        return Err(io::Error::other("an HTTP/2 frame is too large"));
    }
    let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
    Ok(rest.get(..length).map(|payload| Frame { kind: *kind, flags: *flags, stream, payload }))
}

/// The client's connection preface, without server push and with the largest connection window.
pub(crate) fn connection_preface() -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put_frame(&mut out, &Frame { kind: SETTINGS, flags: 0, stream: 0, payload: &[0, 2, 0, 0, 0, 0] });
    let window = (0x7fff_ffff_u32 - 0xffff).to_be_bytes();
    put_frame(&mut out, &Frame { kind: WINDOW_UPDATE, flags: 0, stream: 0, payload: &window });
    out
}

/// The header block of a request for the `number`th route, like `http::get_request`.
pub(crate) fn get_request_block(number: usize) -> Vec<u8> {
    // :method GET and :scheme https are indexed (RFC 7541, appendix A). The rest are literals with indexed names:
    // :path 4, :authority 1, user-agent 58, accept 19.
    let mut block = vec![0x82, 0x87];
    let path = format!("{}item?id=17", http::route(number));
    for (name, value) in [(4, path.as_str()), (1, "bench.example"), (58, "moongate-bench"), (19, "*/*")] {
        match name {
            0..15 => block.push(name),
            _ => block.extend_from_slice(&[15, name - 15]),
        }
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// Appends a request without a body.
pub(crate) fn put_request(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    put_frame(out, &Frame { kind: HEADERS, flags: END_HEADERS | END_STREAM, stream, payload: block });
}

/// # Errors
/// The response that begins with this frame is not a 200, or has an unsupported encoding.
pub(crate) fn check_response(frame: &Frame<'_>) -> io::Result<()> {
    if !frame.has(END_HEADERS) || frame.has(PADDED | PRIORITY) {
        return Err(io::Error::other("a response head spans more than one plain HEADERS frame"));
    }
    // A dynamic table size update may come first and is ignored: the decoder has no dynamic table.
    let mut block = frame.payload;
    while let [0x20..=0x3f, rest @ ..] = block {
        let more =
            if block[0] == 0x3f { rest.iter().take_while(|byte| **byte >= 0x80).count() + 1 } else { 0 };
        block = rest.get(more..).unwrap_or_default();
    }
    match block.first() {
        Some(0x88) => Ok(()),
        _ => Err(io::Error::other("the status of a response is not 200")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn written_frames_are_parsed_back() {
        let mut wire = Vec::new();
        put_request(&mut wire, 5, &get_request_block(7));
        assert_eq!(parse_frame(&wire[..wire.len() - 1]).unwrap(), None);
        assert_eq!(parse_frame(&wire[..8]).unwrap(), None);
        let read = parse_frame(&wire).unwrap().unwrap();
        assert_eq!((read.kind, read.flags, read.stream), (HEADERS, END_HEADERS | END_STREAM, 5));
        assert_eq!((read.payload, read.size()), (&get_request_block(7)[..], wire.len()));
        assert!(parse_frame(b"HTTP/1.1 400 Bad Request").is_err());
    }

    #[test]
    fn only_a_200_is_accepted() {
        let head = |payload| Frame { kind: HEADERS, flags: END_HEADERS, stream: 1, payload };
        assert!(check_response(&head(&[0x88, 0x0f])).is_ok());
        assert!(check_response(&head(&[0x20, 0x3f, 0xe1, 0x1f, 0x88])).is_ok());
        assert!(check_response(&head(&[0x8d])).is_err());
        assert!(check_response(&head(&[0x3f])).is_err());
        assert!(check_response(&head(&[])).is_err());
        assert!(check_response(&Frame { flags: 0, ..head(&[0x88]) }).is_err());
    }
}
