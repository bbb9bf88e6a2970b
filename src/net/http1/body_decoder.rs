//! Decoder of a message body (RFC 9112 §6): its length, `chunked`, or the end of the connection. Sans-io.

use super::chunked_body::{Body, Chunks, Run};
use super::trailers::Trailers;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};

/// The decoder of one body.
#[derive(Debug)]
pub struct BodyDecoder {
    framing: Framing,
    /// The trailer section so far, without its empty line.
    trailers: Vec<u8>,
}

/// The framing of a request body, whose end is never that of the connection (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// This many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

#[derive(Debug)]
enum Framing {
    /// This many bytes follow.
    Length(u64),
    Chunked(Chunks, Runs),
    /// The body ends with the connection.
    UntilClose,
    /// The body is complete.
    Over,
}

/// The form in which runs of a chunked body's data are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// All that are in the buffer at once.
    Joined,
    /// One by one, even if they arrive together: a backend that has responded meanwhile must not receive the
    /// rest of the request.
    Single,
}

/// A step of the decoder.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Data, never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes are needed.
    NeedsBytes,
}

/// The framing of a chunked body is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body violates its framing")]
pub struct BadChunk;

impl BodyDecoder {
    /// The decoder of a request body.
    #[must_use]
    pub fn for_request(framing: RequestFraming) -> Self {
        Self::of(match framing {
            RequestFraming::Length(0) => Framing::Over,
            RequestFraming::Length(length) => Framing::Length(length),
            RequestFraming::Chunked => Framing::Chunked(Chunks::default(), Runs::Single),
        })
    }

    fn of(framing: Framing) -> Self {
        Self { framing, trailers: Vec::new() }
    }

    /// Whether the framing of a chunked body is invalid in these bytes, which come next.
    #[must_use]
    pub fn breaks_in(&self, bytes: &[u8]) -> bool {
        matches!(self.framing, Framing::Chunked(chunks, _) if chunks.breaks_in(bytes))
    }

    /// The decoder for a final response to a request with `method`. The framing of the response must be
    /// clear (see `has_clear_framing`).
    #[must_use]
    pub fn new(method: &Method, status: StatusCode, fields: &HeaderMap) -> Self {
        let is_bodiless = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if is_bodiless {
            return Self::of(Framing::Over);
        }
        if fields.contains_key(header::TRANSFER_ENCODING) {
            return Self::of(Framing::Chunked(Chunks::default(), Runs::Joined));
        }
        let length = fields.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self::of(match length {
            Some(0) => Framing::Over,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.framing, Framing::Over)
    }

    /// The number of missing bytes, if it is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Over => Some(0),
            Framing::Chunked(..) | Framing::UntilClose => None,
        }
    }

    /// Whether the end of the connection ends the body.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// The trailers of a complete body, if it has some that may be forwarded.
    #[must_use]
    pub fn trailers(&self) -> Option<Trailers> {
        if self.trailers.is_empty() || !self.is_over() {
            return None;
        }
        Trailers::parse(&Bytes::copy_from_slice(&self.trailers))
    }

    /// Takes the body's bytes from the start of `buffer`. Bytes after the body stay.
    ///
    /// # Errors
    /// [`BadChunk`]; the connection cannot be used afterwards.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadChunk> {
        match &mut self.framing {
            Framing::Over => Ok(Decoded::End),
            _ if buffer.is_empty() => Ok(Decoded::NeedsBytes),
            Framing::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= here as u64;
                if *left == 0 {
                    self.framing = Framing::Over;
                }
                // The whole buffer is not split, which would allocate.
                let data = if here == buffer.len() { std::mem::take(buffer) } else { buffer.split_to(here) };
                Ok(Decoded::Data(data.freeze()))
            }
            Framing::UntilClose => Ok(Decoded::Data(std::mem::take(buffer).freeze())),
            Framing::Chunked(chunks, runs) => {
                let (data, is_over) = decode_chunks(chunks, *runs, buffer, &mut self.trailers)?;
                if is_over {
                    self.framing = Framing::Over;
                }
                Ok(match (data.is_empty(), is_over) {
                    (false, _) => Decoded::Data(data),
                    (true, true) => Decoded::End,
                    (true, false) => Decoded::NeedsBytes,
                })
            }
        }
    }
}

/// The next data in the buffer, and whether the body is over. A single run of data is not copied.
fn decode_chunks(
    chunks: &mut Chunks,
    runs: Runs,
    buffer: &mut BytesMut,
    trailers: &mut Vec<u8>,
) -> Result<(Bytes, bool), BadChunk> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let before = *chunks;
        let Run { framing, trailers: section, data, state } = chunks.decode(buffer);
        if state == Body::Broken {
            return Err(BadChunk);
        }
        if data > 0 && !first.is_empty() && runs == Runs::Single {
            *chunks = before;
            return Ok((first, false));
        }
        let section = &buffer[framing - section..framing];
        // Without trailers it is an empty line.
        if !trailers.is_empty() || !matches!(section.first(), None | Some(b'\r' | b'\n')) {
            trailers.extend_from_slice(section);
        }
        if state == Body::Over && trailers.ends_with(b"\r\n") {
            trailers.truncate(trailers.len() - 2);
        }
        buffer.advance(framing);
        if data > 0 {
            let data = buffer.split_to(data);
            if first.is_empty() {
                first = data.freeze();
            } else {
                if joined.is_empty() {
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&data);
            }
        }
        let is_over = state == Body::Over;
        if is_over || buffer.is_empty() {
            let all = if joined.is_empty() { first } else { joined.freeze() };
            return Ok((all, is_over));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn decoder(fields: &[(&'static str, &str)]) -> BodyDecoder {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        BodyDecoder::new(&Method::GET, StatusCode::OK, &map)
    }

    /// The body and the rest, from bytes that arrive in these parts.
    fn decode(mut decoder: BodyDecoder, parts: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), BadChunk> {
        let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
        for part in parts {
            buffer.extend_from_slice(part);
            while let Decoded::Data(data) = decoder.decode(&mut buffer)? {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
            }
        }
        Ok((body, buffer.to_vec(), decoder.is_over()))
    }

    const CHUNKED: &[(&str, &str)] = &[("transfer-encoding", "chunked")];

    #[test]
    fn each_framing_has_its_end() {
        let length = decode(decoder(&[("content-length", "3")]), &[b"ab", b"cnext"]).unwrap();
        assert_eq!(length, (b"abc".to_vec(), b"next".to_vec(), true));
        let chunked = decode(decoder(CHUNKED), &[b"1\r\na\r\n2;x\r\nbc\r\n0\r\nt: 1\r\n\r\nnext"]).unwrap();
        assert_eq!(chunked, (b"abc".to_vec(), b"next".to_vec(), true));
        let until_close = decode(decoder(&[]), &[b"ab", b"c"]).unwrap();
        assert_eq!(until_close, (b"abc".to_vec(), Vec::new(), false));
        assert!(decoder(&[("content-length", "0")]).is_over());
    }

    #[test]
    fn responses_without_a_body_are_over_at_once() {
        let fields = HeaderMap::from_iter([(header::CONTENT_LENGTH, "5".parse().unwrap())]);
        assert!(BodyDecoder::new(&Method::HEAD, StatusCode::OK, &fields).is_over());
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::EARLY_HINTS] {
            assert!(BodyDecoder::new(&Method::GET, status, &fields).is_over(), "{status}");
        }
    }

    #[test]
    fn trailers_are_known_after_the_end() {
        let section = "X-sUM: 1\r\nX-b: 2\r\n";
        let wire = format!("1\r\na\r\n0;x\r\n{section}\r\nnext");
        for step in 1..wire.len() {
            for mut decoder in [decoder(CHUNKED), BodyDecoder::for_request(RequestFraming::Chunked)] {
                let mut buffer = BytesMut::new();
                for part in wire.as_bytes().chunks(step) {
                    assert!(decoder.is_over() || decoder.trailers().is_none());
                    buffer.extend_from_slice(part);
                    while let Ok(Decoded::Data(_)) = decoder.decode(&mut buffer) {}
                }
                let mut out = BytesMut::new();
                decoder.trailers().unwrap().write(&mut out);
                assert_eq!((&out[..], &buffer[..]), (section.as_bytes(), &b"next"[..]), "{step}");
            }
        }
        let (mut without, mut buffer) = (decoder(CHUNKED), BytesMut::from(&b"1\r\na\r\n0\r\n\r\n"[..]));
        while let Ok(Decoded::Data(_)) = without.decode(&mut buffer) {}
        assert!(without.is_over() && without.trailers().is_none());
    }

    #[test]
    fn invalid_chunks_are_errors() {
        for bytes in ["x\r\n", "\r\n", "1\r\nab", "1\r\na\n", "fffffffffffffffff\r\n"] {
            assert_eq!(decode(decoder(CHUNKED), &[bytes.as_bytes()]), Err(BadChunk), "{bytes:?}");
        }
    }

    #[test]
    fn chunks_of_a_request_are_returned_one_by_one() {
        let mut decoder = BodyDecoder::for_request(RequestFraming::Chunked);
        let mut buffer = BytesMut::from(&b"1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\nGET"[..]);
        assert!(!decoder.breaks_in(&buffer) && decoder.breaks_in(b"1\r\nab"));
        assert_eq!(decoder.decode(&mut buffer), Ok(Decoded::Data("a".into())));
        assert!(!decoder.is_over());
        assert_eq!(decoder.decode(&mut buffer), Ok(Decoded::Data("bc".into())));
        assert!(decoder.is_over() && buffer == b"GET"[..]);
        assert_eq!(decoder.decode(&mut buffer), Ok(Decoded::End));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_body(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nnext");
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]).collect();
            let (body, rest, is_over) = decode(decoder(CHUNKED), &parts).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!((&rest[..], is_over), (&b"next"[..], true));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(decoder(CHUNKED), &[&bytes]);
        }
    }
}
