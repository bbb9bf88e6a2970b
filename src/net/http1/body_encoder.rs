//! Encoder of a message body for HTTP/1.1: its declared length, or `chunked` (RFC 9112 §7.1). Sans-io.

use super::trailers::Trailers;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};

/// Data up to this size is copied behind its framing, so that it leaves in one write.
const COPIED: usize = 16 << 10;

/// The encoder of one body; the default one is of a message without a body.
#[derive(Debug)]
pub struct BodyEncoder(Framing);

#[derive(Debug)]
enum Framing {
    /// This many bytes are still to come.
    Length(u64),
    /// Each piece is a chunk.
    Chunked {
        /// The line end of the last chunk was not written yet.
        owes_line_end: bool,
    },
}

/// The body differs from its declared length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body differs from its declared length")]
pub struct LengthMismatch;

impl Default for BodyEncoder {
    fn default() -> Self {
        Self(Framing::Length(0))
    }
}

impl BodyEncoder {
    /// The encoder of a body with this length.
    #[must_use]
    pub fn with_length(length: u64) -> Self {
        Self(Framing::Length(length))
    }

    /// The encoder of a body without a known length.
    #[must_use]
    pub fn chunked() -> Self {
        Self(Framing::Chunked { owes_line_end: false })
    }

    /// The encoder for a request with these fields; without framing it has no body.
    #[must_use]
    pub fn new(fields: &HeaderMap) -> Self {
        if fields.contains_key(header::TRANSFER_ENCODING) {
            return Self(Framing::Chunked { owes_line_end: false });
        }
        let length = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
        Self(Framing::Length(fields.get(header::CONTENT_LENGTH).and_then(length).unwrap_or(0)))
    }

    /// Adds data to what is to be written: its framing to `out`, and the data to `out` or, if it is large, to
    /// `data`, which is written after `out`.
    ///
    /// # Errors
    /// When the data exceeds the declared length.
    pub fn push(&mut self, piece: Bytes, out: &mut BytesMut, data: &mut Bytes) -> Result<(), LengthMismatch> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.0 {
            Framing::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(LengthMismatch)?;
            }
            Framing::Chunked { owes_line_end } => {
                Self::end_line(owes_line_end, out);
                put_hex(piece.len(), out);
                out.put_slice(b"\r\n");
                *owes_line_end = true;
            }
        }
        if piece.len() <= COPIED {
            out.put_slice(&piece);
            if let Framing::Chunked { owes_line_end } = &mut self.0 {
                Self::end_line(owes_line_end, out);
            }
        } else {
            *data = piece;
        }
        Ok(())
    }

    /// Whether something follows the data of the last piece.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        matches!(self.0, Framing::Chunked { .. })
    }

    /// Ends the line of a large chunk, whose data has been written.
    pub fn complete_chunk(&mut self, out: &mut BytesMut) {
        if let Framing::Chunked { owes_line_end } = &mut self.0 {
            Self::end_line(owes_line_end, out);
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When less data than declared was given.
    pub fn finish(&mut self, out: &mut BytesMut) -> Result<(), LengthMismatch> {
        self.finish_with(None, out)
    }

    /// Ends the body with trailers, which only a chunked one has.
    ///
    /// # Errors
    /// When less data than declared was given.
    pub fn finish_with(
        &mut self,
        trailers: Option<&Trailers>,
        out: &mut BytesMut,
    ) -> Result<(), LengthMismatch> {
        match &mut self.0 {
            Framing::Length(0) => Ok(()),
            Framing::Length(_) => Err(LengthMismatch),
            Framing::Chunked { owes_line_end } => {
                Self::end_line(owes_line_end, out);
                out.put_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write(out);
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }

    fn end_line(owes_line_end: &mut bool, out: &mut BytesMut) {
        if std::mem::take(owes_line_end) {
            out.put_slice(b"\r\n");
        }
    }
}

fn put_hex(number: usize, out: &mut BytesMut) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.put_u8(b"0123456789abcdef"[(number >> (4 * digit)) & 15]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::net::http1::body_decoder::{BodyDecoder, Decoded};
    use http::{Method, StatusCode};
    use proptest::prelude::*;

    fn encoder(name: header::HeaderName, value: &'static str) -> BodyEncoder {
        BodyEncoder::new(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
    }

    /// The bytes on the wire for a body in these pieces.
    fn encode(mut encoder: BodyEncoder, pieces: &[Bytes]) -> Result<Vec<u8>, LengthMismatch> {
        let mut wire = Vec::new();
        for piece in pieces {
            let (mut out, mut data) = (BytesMut::new(), Bytes::new());
            encoder.push(piece.clone(), &mut out, &mut data)?;
            wire.extend_from_slice(&out);
            if !data.is_empty() {
                wire.extend_from_slice(&data);
                out.clear();
                encoder.complete_chunk(&mut out);
                wire.extend_from_slice(&out);
            }
        }
        let mut out = BytesMut::new();
        encoder.finish(&mut out)?;
        wire.extend_from_slice(&out);
        Ok(wire)
    }

    #[test]
    fn a_declared_length_is_kept() {
        let length = || encoder(header::CONTENT_LENGTH, "3");
        assert_eq!(encode(length(), &["ab".into(), "c".into()]).unwrap(), b"abc");
        assert_eq!(encode(length(), &["ab".into()]), Err(LengthMismatch));
        assert_eq!(encode(length(), &["abcd".into()]), Err(LengthMismatch));
        assert_eq!(encode(BodyEncoder::new(&HeaderMap::new()), &[]).unwrap(), b"");
    }

    #[test]
    fn chunks_have_their_size_and_line_end() {
        let chunked = || encoder(header::TRANSFER_ENCODING, "chunked");
        let wire = encode(chunked(), &["a".into(), Bytes::new(), vec![b'x'; 26].into()]).unwrap();
        assert_eq!(wire, [b"1\r\na\r\n1a\r\n", &[b'x'; 26][..], b"\r\n0\r\n\r\n"].concat());
        let large = Bytes::from(vec![b'x'; COPIED + 1]);
        let wire = encode(chunked(), &[large.clone(), "b".into()]).unwrap();
        assert_eq!(wire, [b"4001\r\n", &large[..], b"\r\n1\r\nb\r\n0\r\n\r\n"].concat());
    }

    proptest! {
        #[test]
        fn a_chunked_body_is_decoded_to_its_pieces(sizes in prop::collection::vec(0..3 * COPIED, 0..5)) {
            let fields = HeaderMap::from_iter([(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))]);
            let pieces: Vec<_> = (0_u8..).zip(&sizes).map(|(byte, size)| vec![byte; *size].into()).collect();
            let wire = encode(BodyEncoder::new(&fields), &pieces).unwrap();
            let mut decoder = BodyDecoder::new(&Method::GET, StatusCode::OK, &fields);
            let (mut wire, mut body) = (BytesMut::from(&wire[..]), BytesMut::new());
            while let Decoded::Data(data) = decoder.decode(&mut wire).unwrap() {
                body.extend_from_slice(&data);
            }
            prop_assert!(decoder.is_over() && wire.is_empty());
            prop_assert!(body[..] == pieces.concat());
        }
    }
}
