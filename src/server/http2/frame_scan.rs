//! Scanner for HTTP/2 frame boundaries in a split byte stream (RFC 9113 §4.1). It keeps only the header of
//! the current frame; h2 validates frames.

/// DATA (RFC 9113 §6.1).
pub(super) const DATA: u8 = 0;
/// HEADERS (§6.2).
pub(super) const HEADERS: u8 = 1;
/// RST_STREAM (§6.4).
pub(super) const RST_STREAM: u8 = 3;
/// SETTINGS (§6.5).
pub(super) const SETTINGS: u8 = 4;
/// PING (§6.7).
pub(super) const PING: u8 = 6;
/// GOAWAY (§6.8).
pub(super) const GOAWAY: u8 = 7;
/// CONTINUATION (§6.10).
pub(super) const CONTINUATION: u8 = 9;

/// The flag END_HEADERS of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The type.
    pub(super) kind: u8,
    /// The flags.
    pub(super) flags: u8,
    /// The length of the payload.
    pub(super) length: u32,
    /// The stream; 0 is the connection.
    pub(super) stream: u32,
    /// The error code of RST_STREAM (§7).
    pub(super) code: u32,
}

impl Frame {
    /// Returns whether it is the last frame of a request header or of trailers.
    pub(super) fn ends_section(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS != 0
    }
}

/// Bytes of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The length.
    pub(super) length: usize,
    /// The kind.
    pub(super) what: FrameKind,
}

/// The kind of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum FrameKind {
    /// The end of a frame header, which is complete now.
    Head(Frame),
    /// Payload of HEADERS or CONTINUATION.
    Section,
    /// Anything else.
    Other,
}

/// The size of a frame header, and of the error code that is the payload of RST_STREAM.
const HEAD: usize = 9;
const CODE: usize = 4;

/// Scans the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    /// A frame header, followed by the error code of RST_STREAM.
    head: [u8; HEAD + CODE],
    have: usize,
    /// The bytes before the next frame.
    skip: usize,
    /// A field section has begun and not ended.
    section: bool,
}

impl Frames {
    /// Creates a scanner that skips the first bytes: a client's preface.
    pub(super) const fn behind(bytes: usize) -> Self {
        Self { head: [0; HEAD + CODE], have: 0, skip: bytes, section: false }
    }

    /// Scans bytes; calls `each` with every complete frame header.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let piece = self.next(bytes);
            if let FrameKind::Head(frame) = piece.what {
                each(frame);
            }
            bytes = &bytes[piece.length..];
        }
    }

    /// The kind of the next bytes; there must be at least one.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Piece {
        if self.skip > 0 {
            let length = self.skip.min(bytes.len());
            self.skip -= length;
            let section = matches!(self.head[3], HEADERS | CONTINUATION);
            return Piece { length, what: if section { FrameKind::Section } else { FrameKind::Other } };
        }
        let size = if self.have < HEAD { HEAD } else { HEAD + CODE };
        let length = (size - self.have).min(bytes.len());
        self.head[self.have..self.have + length].copy_from_slice(&bytes[..length]);
        self.have += length;
        if self.have < size || size == HEAD && self.has_code() {
            return Piece { length, what: FrameKind::Other };
        }
        self.have = 0;
        Piece { length, what: FrameKind::Head(self.begin()) }
    }

    /// Returns whether the current header is that of RST_STREAM; h2 rejects another length.
    fn has_code(&self) -> bool {
        let [a, b, c, kind, ..] = self.head;
        kind == RST_STREAM && u32::from_be_bytes([0, a, b, c]) as usize == CODE
    }

    fn begin(&mut self) -> Frame {
        let [a, b, c, kind, flags, s0, s1, s2, s3, code @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let has_code = self.has_code();
        self.skip = if has_code { 0 } else { length as usize };
        let code = if has_code { u32::from_be_bytes(code) } else { 0 };
        let stream = [s0, s1, s2, s3];
        // The first bit is reserved and ignored (RFC 9113 §4.1).
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let frame = Frame { kind, flags, length, stream, code };
        if matches!(kind, HEADERS | CONTINUATION) {
            self.section = !frame.ends_section();
        }
        frame
    }

    /// Returns whether a request header is incomplete: within one of its frames, or between two.
    pub(super) fn within_section(&self) -> bool {
        let under_way = self.have > 0 || (self.skip > 0 && matches!(self.head[3], HEADERS | CONTINUATION));
        self.section || under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap_or_default().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + length, b'x');
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_found_however_their_bytes_are_cut(
            wanted in proptest::collection::vec((0_u8..12, any::<u8>(), 0_usize..40), 0..12),
            cut in 1_usize..30,
        ) {
            let mut bytes = vec![b'P'; 24];
            for (kind, flags, length) in &wanted {
                bytes.extend(frame(*kind, *flags, *length));
            }
            let mut frames = Frames::behind(24);
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.follow(piece, |frame| found.push((frame.kind, frame.flags, frame.length as usize)));
            }
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_head_is_under_way_until_its_last_byte() {
        let mut frames = Frames::behind(0);
        let headers = frame(HEADERS, 0, 5);
        let end = frame(CONTINUATION, END_HEADERS, 3);
        assert!(!frames.within_section());
        for byte in headers.iter().chain(&end[..end.len() - 1]) {
            frames.follow(&[*byte], |_| ());
            assert!(frames.within_section());
        }
        frames.follow(&end[end.len() - 1..], |_| ());
        assert!(!frames.within_section());
    }

    #[test]
    fn a_reset_has_its_code_however_its_bytes_are_cut() {
        let mut bytes = frame(RST_STREAM, 0, 0);
        bytes[2] = 4;
        bytes.extend([0, 0, 1, 7]);
        bytes.extend(frame(DATA, 0, 3));
        for cut in 1..bytes.len() {
            let (mut frames, mut found) = (Frames::behind(0), Vec::new());
            for piece in bytes.chunks(cut) {
                frames.follow(piece, |frame| found.push((frame.kind, frame.code)));
            }
            assert_eq!(found, [(RST_STREAM, 0x107), (DATA, 0)], "{cut}");
        }
    }

    #[test]
    fn a_body_under_way_is_no_head() {
        let mut frames = Frames::behind(0);
        frames.follow(&frame(DATA, 0, 5)[..12], |_| ());
        assert!(!frames.within_section());
    }
}
