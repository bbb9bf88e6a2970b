//! Any pieces of a request body: the chunked encoding is decoded to the same bytes and ends exactly with them, and a
//! declared length is kept or refused.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use moongate::net::http1::body_decoder::{BodyDecoder, Decoded};
use moongate::net::http1::body_encoder::{BodyEncoder, LengthMismatch};

fuzz_target!(|input: (Vec<u16>, u32)| {
    let (sizes, length) = input;
    let pieces: Vec<Bytes> = (0..).zip(&sizes).map(|(at, size)| piece(at, *size)).collect();
    let body = pieces.concat();
    let chunked = HeaderMap::from_iter([(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))]);
    let wire = encode(BodyEncoder::new(&chunked), &pieces).expect("chunks have any length");
    assert_eq!(decode(&chunked, &wire), body);
    for length in [u64::from(length), body.len() as u64] {
        let declared = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(length))]);
        let wire = encode(BodyEncoder::new(&declared), &pieces);
        assert_eq!(wire.is_ok(), length == body.len() as u64);
        assert!(wire.is_err() || wire.is_ok_and(|wire| wire == body));
    }
});

/// Bytes that look like framing.
fn piece(at: usize, size: u16) -> Bytes {
    b"\r\n0\r\n\r\nGET / 1;".iter().copied().cycle().skip(at).take(usize::from(size)).collect()
}

/// The bytes on the wire, as a connection writes them.
fn encode(mut encoder: BodyEncoder, pieces: &[Bytes]) -> Result<Vec<u8>, LengthMismatch> {
    let mut wire = Vec::new();
    for piece in pieces {
        let (mut out, mut data) = (BytesMut::new(), Bytes::new());
        encoder.push(piece.clone(), &mut out, &mut data)?;
        wire.extend_from_slice(&out);
        wire.extend_from_slice(&data);
        if !data.is_empty() {
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

fn decode(fields: &HeaderMap, wire: &[u8]) -> Vec<u8> {
    let mut decoder = BodyDecoder::new(&Method::GET, StatusCode::OK, fields);
    let (mut wire, mut body) = (BytesMut::from(wire), Vec::new());
    while let Decoded::Data(data) = decoder.decode(&mut wire).expect("the chunks are valid") {
        body.extend_from_slice(&data);
    }
    assert!(decoder.is_over() && wire.is_empty());
    body
}
