//! Any bytes of a backend in any split: nothing panics, and every split gives the same response. What is forwarded is
//! one valid message: written again, it is read as the same one.
#![no_main]

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version, header};
use libfuzzer_sys::fuzz_target;
use moongate::net::http1::body_decoder::{BodyDecoder, Decoded};
use moongate::net::http1::response_head::{has_clear_framing, take_next};

/// The limit on fields of a response.
const MAX_FIELDS: usize = 256;

/// What a client gets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    interim: usize,
    head: Option<(StatusCode, Version, Vec<u8>)>,
    body: Vec<u8>,
    end: End,
    /// The bytes after the response.
    rest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    Complete,
    WithConnection,
    #[default]
    Missing,
    Refused,
}

fuzz_target!(|data: &[u8]| {
    let [options, step, stream @ ..] = data else { return };
    let method = if options & 1 == 0 { Method::GET } else { Method::HEAD };
    let whole = receive(&method, stream, stream.len().max(1));
    let pieces = receive(&method, stream, usize::from(*step).max(1));
    if whole.end == End::Refused && whole.head.is_some() {
        // Data before an invalid chunk may be forwarded.
        assert_eq!((whole.interim, &whole.head, whole.end), (pieces.interim, &pieces.head, pieces.end));
        assert!(pieces.body.starts_with(&whole.body));
        return;
    }
    assert_eq!(whole, pieces);
    if matches!(whole.end, End::Complete | End::WithConnection) {
        assert_survives(&method, &whole);
    }
});

fn receive(method: &Method, stream: &[u8], step: usize) -> Received {
    let (mut received, mut buffer, mut searched) = (Received::default(), BytesMut::new(), 0);
    let mut decoder: Option<BodyDecoder> = None;
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        while decoder.is_none() {
            match take_next(&mut buffer, &mut searched) {
                Ok(None) => break,
                Ok(Some((head, _)))
                    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                {
                    received.interim += 1;
                }
                Ok(Some((head, _)))
                    if head.status != StatusCode::SWITCHING_PROTOCOLS
                        && has_clear_framing(head.status, head.version, &head.headers) =>
                {
                    let mut fields = BytesMut::new();
                    head.header_to_h1_wire(&mut fields);
                    received.head = Some((head.status, head.version, fields.to_vec()));
                    decoder = Some(decoder_of(method, head.status, &head.headers));
                }
                Ok(Some(_)) | Err(_) => return Received { end: End::Refused, ..received },
            }
        }
        let Some(decoder) = &mut decoder else { continue };
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => received.body.extend_from_slice(&data),
                Ok(Decoded::End | Decoded::NeedsBytes) => break,
                Err(_) => return Received { end: End::Refused, ..received },
            }
        }
    }
    received.end = match &decoder {
        Some(decoder) if decoder.is_over() => End::Complete,
        Some(decoder) if decoder.ends_with_connection() => End::WithConnection,
        _ => End::Missing,
    };
    received.rest = buffer.to_vec();
    received
}

/// The decoder, as for a header in which repeated lengths became one.
fn decoder_of(method: &Method, status: StatusCode, fields: &HeaderMap) -> BodyDecoder {
    let mut fields = fields.clone();
    if let Some(length) = fields.get(header::CONTENT_LENGTH).cloned() {
        let first = length.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        fields.insert(header::CONTENT_LENGTH, first.try_into().expect("a part of a value is one"));
    }
    BodyDecoder::new(method, status, &fields)
}

/// The message with a framing of its own is read as the same message, and nothing is left.
fn assert_survives(method: &Method, received: &Received) {
    let Some((status, _, fields)) = &received.head else { return };
    let is_framing = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
    };
    if fields.split(|byte| *byte == b'\n').count() > MAX_FIELDS {
        // With a length of its own it could have a field more than a header may have.
        return;
    }
    let mut wire = BytesMut::new();
    wire.put_slice(format!("HTTP/1.1 {} OK\r\n", status.as_u16()).as_bytes());
    for line in fields.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_framing(line)) {
        wire.put_slice(line);
    }
    wire.put_slice(format!("Content-Length: {}\r\n\r\n", received.body.len()).as_bytes());
    wire.put_slice(&received.body);
    let again = receive(method, &wire, wire.len());
    let (again_status, _, _) = again.head.as_ref().expect("the header is valid");
    assert_eq!((again_status, &again.body, again.end), (status, &received.body, End::Complete));
    assert!(again.rest.is_empty());
}
