//! Encoder of one response, piece by piece. Windows are small, because a gateway has many at once.

use super::Coding;
use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use std::io::{self, Write};
use zstd::zstd_safe::CParameter;

/// The window size of the codings as a power of two: 256 KiB gives most of the gain.
const WINDOW: u32 = 18;

/// The level of each coding.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) gzip: u8,
    pub(super) br: u8,
    pub(super) zstd: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gzip: 5, br: 4, zstd: 3 }
    }
}

/// An encoder in progress; the last piece finishes it. The lock is never contended: request state must be `Sync`,
/// and not every encoder is.
pub(super) struct Encoder(Mutex<Option<CodingEncoder>>);

enum CodingEncoder {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder of this coding.
    ///
    /// # Errors
    /// It cannot be allocated.
    pub(super) fn new(coding: Coding, levels: Levels) -> io::Result<Self> {
        let encoder = match coding {
            Coding::Gzip => {
                CodingEncoder::Gzip(GzEncoder::new(Vec::new(), Compression::new(levels.gzip.into())))
            }
            Coding::Br => {
                let parameters = BrotliEncoderParams {
                    quality: levels.br.into(),
                    lgwin: WINDOW as i32,
                    ..BrotliEncoderParams::default()
                };
                CodingEncoder::Br(Box::new(CompressorWriter::with_params(Vec::new(), 4096, &parameters)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), levels.zstd.into())?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                CodingEncoder::Zstd(encoder)
            }
        };
        Ok(Self(Mutex::new(Some(encoder))))
    }

    /// Encodes a piece and returns the available output: all of it with `at_once`, and the end after the `last`
    /// piece.
    ///
    /// # Errors
    /// The encoder fails, or was finished before.
    pub(super) fn pass(&mut self, bytes: &[u8], at_once: bool, last: bool) -> io::Result<Bytes> {
        let slot = self.0.get_mut();
        let encoder = slot.as_mut().ok_or_else(|| io::Error::other("the body had ended"))?;
        encoder.writer().write_all(bytes)?;
        if last {
            return match slot.take() {
                Some(encoder) => encoder.finish().map(Bytes::from),
                None => Ok(Bytes::new()),
            };
        }
        if at_once && !bytes.is_empty() {
            encoder.writer().flush()?;
        }
        Ok(Bytes::from(std::mem::take(encoder.out())))
    }
}

impl CodingEncoder {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Br(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Br(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Br(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::io::Read;

    fn decoded(coding: Coding, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(encoded).read_to_end(&mut plain)?,
            Coding::Br => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut plain)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(encoded)?.read_to_end(&mut plain)?,
        };
        Ok(plain)
    }

    /// The decodable part of an encoded body that has not ended.
    fn readable(coding: Coding, encoded: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(encoded)),
            Coding::Br => Box::new(brotli::Decompressor::new(encoded, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(encoded).unwrap()),
        };
        let (mut plain, mut byte) = (Vec::new(), [0]);
        while matches!(reader.read(&mut byte), Ok(1)) {
            plain.push(byte[0]);
        }
        plain
    }

    #[test]
    fn pieces_are_encoded_at_every_level() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
        for (coding, levels) in [(Coding::Gzip, 1..=9), (Coding::Br, 0..=6), (Coding::Zstd, 1..=9)] {
            for level in levels {
                let levels = Levels { gzip: level, br: level, zstd: level };
                let mut encoder = Encoder::new(coding, levels).unwrap();
                let mut encoded = Vec::new();
                for chunk in text.chunks(7777) {
                    encoded.extend(encoder.pass(chunk, false, false).unwrap());
                }
                encoded.extend(encoder.pass(b"", false, true).unwrap());
                assert!(encoded.len() < text.len() / 2, "{coding:?} {level}: {}", encoded.len());
                assert_eq!(decoded(coding, &encoded).unwrap(), text);
                assert!(encoder.pass(b"x", false, false).is_err(), "the encoder is finished");
            }
        }
    }

    #[test]
    fn a_flushed_piece_can_be_decoded_at_once() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, Levels::default()).unwrap();
            let (mut encoded, mut plain) = (Vec::new(), Vec::<u8>::new());
            for n in 0..5 {
                let event = format!("data: {n}\n\n");
                plain.extend(event.as_bytes());
                encoded.extend(encoder.pass(event.as_bytes(), true, false).unwrap());
                assert_eq!(readable(coding, &encoded), plain, "{coding:?}");
            }
            encoded.extend(encoder.pass(b"", true, true).unwrap());
            assert_eq!(decoded(coding, &encoded).unwrap(), plain);
        }
    }

    #[test]
    fn an_empty_body_is_a_complete_one() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, Levels::default()).unwrap();
            let encoded = encoder.pass(b"", true, true).unwrap();
            assert_eq!(decoded(coding, &encoded).unwrap(), b"");
        }
    }
}
