//! Invariants of HTTP/1 responses between a backend's bytes and a client's, for property tests and fuzzing: what is
//! forwarded is the same response as one valid message, and nothing of the backend's connection.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a violated invariant is a panic")]

use super::body::response_body;
use super::downstream::http1_session::{ResponseBody, put_final_head, put_head};
use super::request::hop_by_hop;
use crate::net::http1::body_decoder::{BodyDecoder, Decoded};
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::{has_clear_framing, take_next};
use crate::net::http1::trailers::Trailers;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;

/// The limit on fields of a response, and the fields that the gateway adds: Date, Connection and a coding.
const MAX_FIELDS: usize = 256;
const OWN_FIELDS: usize = 3;

/// The client's request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// HEAD in place of GET.
    pub is_head: bool,
    /// HTTP/1.0 in place of HTTP/1.1.
    pub is_http_1_0: bool,
}

/// A response of a backend that the gateway forwards.
struct ReceivedResponse {
    interim: Vec<(ResponseHeader, FieldNames)>,
    head: ResponseHeader,
    names: FieldNames,
    body: Bytes,
    trailers: Option<Trailers>,
    /// The body ends with the connection.
    ends_with_connection: bool,
}

/// Checks the response at the start of bytes that arrive in pieces with these sizes, repeated.
pub fn check(asked: Asked, bytes: &[u8], sizes: &[u8]) {
    let method = if asked.is_head { Method::HEAD } else { Method::GET };
    let whole = receive(&method, bytes, &[]);
    let pieces = receive(&method, bytes, sizes);
    let meaning = |received: &Option<ReceivedResponse>| {
        received.as_ref().map(|received| {
            (
                received.interim.len(),
                received.head.status,
                received.head.headers.clone(),
                received.body.clone(),
            )
        })
    };
    assert_eq!(meaning(&whole), meaning(&pieces), "by {sizes:?}");
    if let Some(received) = whole {
        check_forwarded(asked, &method, received);
    }
}

/// The response, unless it is rejected or incomplete.
fn receive(method: &Method, bytes: &[u8], sizes: &[u8]) -> Option<ReceivedResponse> {
    let (mut buffer, mut searched, mut interim) = (BytesMut::new(), 0, Vec::new());
    let mut current: Option<(ResponseHeader, FieldNames, BodyDecoder, BytesMut)> = None;
    let mut sizes = sizes.iter().map(|size| usize::from(*size).max(1)).cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
        rest = after;
        buffer.extend_from_slice(piece);
        while current.is_none() {
            let Some((mut head, names)) = take_next(&mut buffer, &mut searched).ok()? else { break };
            // As `attempt::response_started` does.
            if head.status == StatusCode::SWITCHING_PROTOCOLS
                || !hop_by_hop::frame_is_clear(&mut head).ok()?
            {
                return None;
            }
            let decoder = BodyDecoder::new(method, head.status, &head.headers);
            hop_by_hop::response(&mut head, false).ok()?;
            head.set_version(Version::HTTP_11);
            if head.status.is_informational() {
                interim.push((head, names));
            } else {
                current = Some((head, names, decoder, BytesMut::new()));
            }
        }
        let Some((_, _, decoder, body)) = &mut current else { continue };
        while let Decoded::Data(data) = decoder.decode(&mut buffer).ok()? {
            body.extend_from_slice(&data);
        }
    }
    let (head, names, decoder, body) = current?;
    let ends_with_connection = decoder.ends_with_connection();
    let is_complete = decoder.is_over() || ends_with_connection;
    let trailers = decoder.trailers();
    is_complete.then(|| ReceivedResponse {
        interim,
        head,
        names,
        body: body.freeze(),
        trailers,
        ends_with_connection,
    })
}

/// Forwards the response as `exchange` does, and reads it as the client does.
fn check_forwarded(asked: Asked, method: &Method, received: ReceivedResponse) {
    let ReceivedResponse { interim, mut head, names, body, trailers, ends_with_connection } = received;
    if head.headers.len() + OWN_FIELDS > MAX_FIELDS {
        // The reader here has the limit of a backend's responses, which a client need not have.
        return;
    }
    let version = if asked.is_http_1_0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut out = BytesMut::new();
    if !asked.is_http_1_0 {
        for (head, names) in &interim {
            put_head(&mut out, head, names, None);
        }
    }
    if ends_with_connection {
        head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")).expect("a coding");
    }
    let comes = response_body::has_response_body(method, &head);
    let goes = response_body::has_body(method, head.status);
    let must_close =
        response_body::set_framing(&mut head, version, false, (comes, goes)).expect("the framing is valid");
    let (status, mut keeps_connection) = (head.status, !must_close);
    let mut framing = put_final_head(&mut out, &mut head, &names, (method, version), &mut keeps_connection);
    if let ResponseBody::Framed(encoder) = &mut framing {
        let mut data = Bytes::new();
        encoder.push(body.clone(), &mut out, &mut data).expect("a body of its length");
        out.extend_from_slice(&data);
        encoder.complete_chunk(&mut out);
        encoder.finish_with(trailers.as_ref(), &mut out).expect("a complete body");
    } else if matches!(framing, ResponseBody::UntilClose) {
        out.extend_from_slice(&body);
        assert!(!keeps_connection, "the end of the body is that of the connection");
    }
    let shown = String::from_utf8_lossy(&out).into_owned();
    let understood = read_as_client(method, out, if asked.is_http_1_0 { 0 } else { interim.len() }, &shown);
    let fields = &understood.head.headers;
    assert!(!fields.contains_key(header::TE), "{shown}");
    let is_chunked = fields.contains_key(header::TRANSFER_ENCODING);
    assert!(is_chunked || !fields.contains_key(header::TRAILER), "{shown}");
    let lines = |trailers: &Option<Trailers>| {
        let mut lines = BytesMut::new();
        trailers.iter().for_each(|trailers| trailers.write(&mut lines));
        lines
    };
    if is_chunked && response_body::has_body(method, status) {
        assert_eq!(lines(&understood.trailers), lines(&trailers), "{shown}");
    } else {
        assert!(understood.trailers.is_none(), "{shown}");
    }
    assert!(status == StatusCode::UPGRADE_REQUIRED || !fields.contains_key(header::UPGRADE), "{shown}");
    assert_eq!(fields.get_all(header::CONNECTION).iter().count(), 1, "{shown}");
    assert!(
        fields.get_all(header::TRANSFER_ENCODING).iter().count() <= usize::from(!asked.is_http_1_0),
        "{shown}"
    );
    assert!(fields.get_all(header::CONTENT_LENGTH).iter().count() <= 1, "{shown}");
    assert_eq!((understood.head.status, &understood.body), (status, &body), "{shown}");
    assert!(!(understood.ends_with_connection && keeps_connection), "{shown}");
}

/// The one response in these bytes, after as many interim ones.
fn read_as_client(method: &Method, mut bytes: BytesMut, interim: usize, shown: &str) -> ReceivedResponse {
    let mut next = || take_next(&mut bytes, &mut 0).ok().flatten();
    for _ in 0..interim {
        let (head, _) = next().unwrap_or_else(|| panic!("an interim response: {shown}"));
        assert!(head.status.is_informational(), "{shown}");
    }
    let (head, names) = next().unwrap_or_else(|| panic!("a response: {shown}"));
    assert!(has_clear_framing(head.status, head.version, &head.headers), "{shown}");
    let mut decoder = BodyDecoder::new(method, head.status, &head.headers);
    let mut body = BytesMut::new();
    while let Decoded::Data(data) = decoder.decode(&mut bytes).unwrap_or_else(|_| panic!("a body: {shown}")) {
        body.extend_from_slice(&data);
    }
    let ends_with_connection = decoder.ends_with_connection();
    assert!(decoder.is_over() || ends_with_connection, "the body is complete: {shown}");
    assert!(bytes.is_empty(), "one message: {shown}");
    let trailers = decoder.trailers();
    ReceivedResponse { interim: Vec::new(), head, names, body: body.freeze(), trailers, ends_with_connection }
}

#[cfg(test)]
mod tests {
    use super::{Asked, check};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_forwarded_is_what_was_received(
            interim in "(HTTP/1\\.1 103 X\r\nLink: a\r\n\r\n){0,2}",
            line in "HTTP/1\\.[01] (200|204|304|404) (OK|)",
            fields in proptest::collection::vec(
                "(content-length|Content-LENGTH|Transfer-Encoding|Connection|TE|Upgrade|Trailer|X-A|x-b|Date|Keep-Alive): ?(3|3, 3|0|chunked|close|x-a, x-b|a)",
                0..6,
            ),
            body in "(abc|3\r\nabc\r\n0\r\n\r\n|3;x=y\r\nabc\r\n0\r\nT: 1\r\nHost: x\r\nu:2\r\n\r\n|)",
            is_head in any::<bool>(),
            is_http_1_0 in any::<bool>(),
            sizes in proptest::collection::vec(any::<u8>(), 0..5),
        ) {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let wire = format!("{interim}{line}\r\n{fields}\r\n{body}");
            check(Asked { is_head, is_http_1_0 }, wire.as_bytes(), &sizes);
        }

        #[test]
        fn no_bytes_violate_an_invariant(
            bytes in any::<Vec<u8>>(),
            is_head in any::<bool>(),
            sizes in proptest::collection::vec(any::<u8>(), 0..5),
        ) {
            check(Asked { is_head, is_http_1_0: false }, &bytes, &sizes);
        }
    }
}
