//! WebSocket frames of load and backend: written whole, parsed from any split of bytes. Payloads are
//! unmasked in place and never stored. Protocol violations are not checked; the tests do that.

/// A text frame.
pub(crate) const TEXT: u8 = 1;
/// A binary frame.
pub(crate) const BINARY: u8 = 2;
/// Close.
pub(crate) const CLOSE: u8 = 8;
/// Ping.
pub(crate) const PING: u8 = 9;
/// Pong.
pub(crate) const PONG: u8 = 10;

/// The key of every masked frame that the bench sends. The cost does not depend on the key, but zero could be
/// optimized away.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A complete frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The opcode, 0 to 15.
    pub(crate) opcode: u8,
    /// Payload bytes.
    pub(crate) length: u64,
    key: Option<[u8; 4]>,
}

/// The events of [`FrameParser::feed`]. Each frame has one header, any number of payload pieces and one end.
pub(crate) enum FrameEvent<'a> {
    /// A header is complete.
    Header(FrameHeader),
    /// A piece of the payload, unmasked.
    Payload(&'a [u8]),
    /// The frame is complete.
    End(FrameHeader),
}

/// A parser of frames in a stream of bytes.
#[derive(Default)]
pub(crate) struct FrameParser {
    header: [u8; 14],
    header_bytes: usize,
    current: Option<FrameHeader>,
    remaining: u64,
    key_offset: usize,
}

impl FrameParser {
    /// Parses further bytes; `bytes` are unmasked in place.
    pub(crate) fn feed(&mut self, mut bytes: &mut [u8], mut on_event: impl FnMut(FrameEvent<'_>)) {
        while !bytes.is_empty() {
            let Some(head) = self.current else {
                bytes = self.header(bytes, &mut on_event);
                continue;
            };
            let take =
                usize::try_from(self.remaining).map_or(bytes.len(), |remaining| remaining.min(bytes.len()));
            let (piece, rest) = bytes.split_at_mut(take);
            if let Some(key) = head.key {
                mask(piece, key, self.key_offset);
            }
            self.key_offset = (self.key_offset + take) % 4;
            self.remaining -= take as u64;
            on_event(FrameEvent::Payload(piece));
            self.finish(&mut on_event);
            bytes = rest;
        }
    }

    /// Collects the header byte by byte: a header is short and may be split anywhere.
    fn header<'a>(&mut self, bytes: &'a mut [u8], on_event: &mut impl FnMut(FrameEvent<'_>)) -> &'a mut [u8] {
        for (at, byte) in bytes.iter().enumerate() {
            self.header[self.header_bytes] = *byte;
            self.header_bytes += 1;
            if let Some(head) = parse(&self.header[..self.header_bytes]) {
                (self.current, self.remaining, self.key_offset, self.header_bytes) =
                    (Some(head), head.length, 0, 0);
                on_event(FrameEvent::Header(head));
                self.finish(on_event);
                return &mut bytes[at + 1..];
            }
        }
        &mut []
    }

    fn finish(&mut self, on_event: &mut impl FnMut(FrameEvent<'_>)) {
        if self.remaining == 0
            && let Some(head) = self.current.take()
        {
            on_event(FrameEvent::End(head));
        }
    }
}

/// The head, if `bytes` are exactly one complete header.
fn parse(bytes: &[u8]) -> Option<FrameHeader> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, after) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let key = if second & 0x80 == 0 { None } else { Some(bytes.get(after..after + 4)?.try_into().ok()?) };
    Some(FrameHeader { opcode: first & 0x0f, length, key })
}

/// Appends a header without a key, as a server sends it.
pub(crate) fn put_header(out: &mut Vec<u8>, opcode: u8, length: u64) {
    out.push(0x80 | opcode);
    match u16::try_from(length) {
        Ok(short @ 0..=125) => out.push(short as u8),
        Ok(middle) => {
            out.push(126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        Err(_) => {
            out.push(127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a whole masked frame, as a client sends it.
pub(crate) fn put_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let start = out.len();
    put_header(out, opcode, payload.len() as u64);
    out[start + 1] |= 0x80;
    out.extend_from_slice(&KEY);
    let body = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[body..], KEY, 0);
}

/// Eight bytes at a time, to keep the backend's share of a 16 KiB message small.
fn mask(bytes: &mut [u8], key: [u8; 4], key_offset: usize) {
    let key: [u8; 8] = std::array::from_fn(|at| key[(key_offset + at) % 4]);
    let word = u64::from_ne_bytes(key);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(
        frames: &mut FrameParser,
        bytes: &[u8],
        into: &mut Vec<(FrameHeader, Vec<u8>)>,
        part: &mut Vec<u8>,
    ) {
        frames.feed(&mut bytes.to_vec(), |event| match event {
            FrameEvent::Header(_) => part.clear(),
            FrameEvent::Payload(piece) => part.extend_from_slice(piece),
            FrameEvent::End(head) => into.push((head, part.clone())),
        });
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let payloads = [vec![], vec![7; 125], vec![8; 126], vec![9; 300], (0..=255).collect::<Vec<u8>>()];
        let mut wire = Vec::new();
        for payload in &payloads {
            put_masked(&mut wire, BINARY, payload);
            put_header(&mut wire, TEXT, payload.len() as u64);
            wire.extend_from_slice(payload);
        }
        for size in 1..wire.len() {
            let (mut frames, mut got, mut part) = (FrameParser::default(), Vec::new(), Vec::new());
            for piece in wire.chunks(size) {
                collect(&mut frames, piece, &mut got, &mut part);
            }
            let bodies: Vec<_> = got.iter().map(|(_, body)| body.clone()).collect();
            let wanted: Vec<_> = payloads.iter().flat_map(|body| [body.clone(), body.clone()]).collect();
            assert_eq!(bodies, wanted, "in pieces of {size}");
            assert_eq!(got[0].0.opcode, BINARY);
            assert_eq!(got[1].0.opcode, TEXT);
        }
    }

    #[test]
    fn a_long_frame_has_a_length_of_eight_bytes() {
        let mut wire = Vec::new();
        put_masked(&mut wire, BINARY, &vec![1; 70_000]);
        assert_eq!(wire.len(), 70_000 + 14);
        let (mut frames, mut got, mut part) = (FrameParser::default(), Vec::new(), Vec::new());
        collect(&mut frames, &wire, &mut got, &mut part);
        assert_eq!(got[0].1, vec![1; 70_000]);
    }
}
