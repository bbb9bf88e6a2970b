//! HTTP/1 response headers from a backend, with Pingora's limits and leniency: WebSocket handshakes and
//! health checks accept exactly the headers that ordinary requests accept.

use super::field_names::FieldNames;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use std::borrow::Cow;
use std::io;
use std::mem::MaybeUninit;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The limit in bytes up to the end of the final header, interim responses included; Pingora's limit for one
/// header.
const MAX_HEAD: usize = 1 << 20;
/// The maximum number of interim responses that are forwarded of one exchange.
pub const MAX_INTERIM: u32 = 100;
/// The limit on header fields of a response, as in Pingora.
const MAX_FIELDS: usize = 256;
/// Enough bytes for most headers.
const FIRST_READ: usize = 1 << 10;
/// The start of every status line.
const START: &[u8] = b"HTTP/1.";

/// The header of a final response: any status from 200, or 101.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header fields; their values share `bytes`.
    pub fields: HeaderMap,
    /// The names of the fields as received.
    pub names: FieldNames,
    /// The header as received, and all bytes read after it.
    pub bytes: Bytes,
    /// The offset of the header's end in `bytes`.
    pub end: usize,
}

/// The reason for the lack of a header.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The connection was closed before the end of the header.
    #[error("the connection was closed before the response header was complete")]
    Closed,
    /// The header is not HTTP, or exceeds a limit.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for HeadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// An interim response (100, 102, 103; RFC 9110 §15.2), which a final one follows.
#[derive(Debug)]
pub struct InterimHead {
    /// The header.
    pub head: ResponseHeader,
    /// The names of its fields as received.
    pub names: FieldNames,
}

/// The header of a response.
#[derive(Debug)]
pub enum ReadHead {
    /// Another response follows.
    Interim(InterimHead),
    /// The final response.
    Final(ResponseHead),
}

/// The reader of the responses to one request, up to the header of the final one.
#[derive(Debug)]
pub struct HeadReader {
    buffer: BytesMut,
    /// The bytes of earlier headers.
    skipped: usize,
}

impl Default for HeadReader {
    fn default() -> Self {
        Self { buffer: BytesMut::with_capacity(FIRST_READ), skipped: 0 }
    }
}

impl HeadReader {
    /// Reads the next header. The caller sets a time limit.
    ///
    /// # Errors
    /// [`HeadError`]; the connection cannot be used afterwards.
    pub async fn next<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<ReadHead, HeadError> {
        let mut searched = 0;
        loop {
            if searched == 0 {
                self.skipped += skip_empty_lines(&mut self.buffer);
            }
            if !self.buffer.iter().zip(START).all(|(found, expected)| found == expected) {
                return Err(HeadError::Malformed("the response is not HTTP"));
            }
            // Only new bytes are searched, so the cost does not depend on the number of reads.
            let Some(end) = head_end(&self.buffer, searched) else {
                searched = self.buffer.len();
                if self.skipped + searched >= MAX_HEAD {
                    return Err(HeadError::Malformed("the response header is longer than 1 MiB"));
                }
                if stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(HeadError::Closed);
                }
                continue;
            };
            let bytes = std::mem::take(&mut self.buffer).freeze();
            let read = parse(&bytes.slice(..end), |status, version, response, head| {
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    let (head, names) = spelled_head(status, version, response, head)?;
                    return Ok(ReadHead::Interim(InterimHead { head, names }));
                }
                let (fields, names) = fields(head, response.headers)?;
                let bytes = bytes.clone();
                Ok(ReadHead::Final(ResponseHead { status, version, fields, names, bytes, end }))
            })?;
            if matches!(read, ReadHead::Interim(_)) {
                self.skipped += end;
                self.buffer.extend_from_slice(&bytes[end..]);
            }
            return Ok(read);
        }
    }
}

/// Reads the header of the final response, after any interim ones. The caller sets a time limit.
///
/// # Errors
/// [`HeadError`]; the connection cannot be used afterwards.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<ResponseHead, HeadError> {
    let mut reader = HeadReader::default();
    loop {
        if let ReadHead::Final(head) = reader.next(stream).await? {
            return Ok(head);
        }
    }
}

/// Takes the next header, interim ones included, from the start of a buffer, and its names in their received
/// spelling. `None` needs more bytes. `searched` is the number of bytes that earlier calls have searched; it
/// starts at 0 for each header.
///
/// # Errors
/// [`HeadError::Malformed`]; the connection cannot be used afterwards.
pub fn take_next(
    buffer: &mut BytesMut,
    searched: &mut usize,
) -> Result<Option<(ResponseHeader, FieldNames)>, HeadError> {
    if *searched == 0 {
        skip_empty_lines(buffer);
    }
    if !buffer.iter().zip(START).all(|(found, expected)| found == expected) {
        return Err(HeadError::Malformed("the response is not HTTP"));
    }
    let Some(end) = head_end(buffer, *searched) else {
        *searched = buffer.len();
        if *searched >= MAX_HEAD {
            return Err(HeadError::Malformed("the response header is longer than 1 MiB"));
        }
        return Ok(None);
    };
    *searched = 0;
    // Copied: the header outlives the buffer, which an idle stream must not hold.
    let bytes = Bytes::copy_from_slice(&buffer[..end]);
    buffer.advance(end);
    parse(&bytes, spelled_head).map(Some)
}

impl ResponseHead {
    /// Whether the end of the body is unambiguous (RFC 9112 §6.3).
    #[must_use]
    pub fn has_clear_framing(&self) -> bool {
        has_clear_framing(self.status, self.version, &self.fields)
    }
}

/// Whether the end of a response's body is unambiguous (RFC 9112 §6.3): the only coding is `chunked`, or all
/// lengths are equal.
#[must_use]
pub fn has_clear_framing(status: StatusCode, version: Version, fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match codings.next() {
        None => has_one_length(fields),
        // RFC 9112 §6.1: 1xx and 204 have no coding; the field is dropped.
        Some(_) if status == StatusCode::NO_CONTENT || status.is_informational() => true,
        Some(coding) => {
            let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            // RFC 9112 §6.1: a transfer coding in HTTP/1.0 indicates faulty framing.
            is_chunked && codings.next().is_none() && version != Version::HTTP_10
        }
    }
}

/// Whether all Content-Length values, repeated or in a list, are the same number (RFC 9110 §8.6).
fn has_one_length(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else { return true };
    let is_digits = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    let is_number = is_digits && std::str::from_utf8(first).is_ok_and(|first| first.parse::<u64>().is_ok());
    is_number && lengths.all(|length| length.trim_ascii() == first)
}

/// Drops empty lines before a status line, as httparse does. Returns their number of bytes.
fn skip_empty_lines(buffer: &mut BytesMut) -> usize {
    let empty = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    buffer.advance(empty);
    empty
}

/// The end of the header at the start of `bytes`, if complete; there is none before `searched`.
fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    // The end may start up to three bytes before the new bytes.
    let start = searched.saturating_sub(3);
    for at in memchr::memchr_iter(b'\n', &bytes[start..]) {
        let rest = &bytes[start + at + 1..];
        match rest {
            [b'\n', ..] => return Some(start + at + 2),
            [b'\r', b'\n', ..] => return Some(start + at + 3),
            _ => {}
        }
    }
    None
}

/// Parses a complete header, and makes the result of it.
fn parse<T>(
    head: &Bytes,
    make: impl FnOnce(StatusCode, Version, &httparse::Response<'_, '_>, &Bytes) -> Result<T, HeadError>,
) -> Result<T, HeadError> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let mut parser = httparse::ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    match parser.parse_response_with_uninit_headers(&mut response, head, &mut room) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::Malformed("the response has more than 256 header fields"));
        }
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(HeadError::Malformed("the response is not HTTP"));
        }
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else { return Err(HeadError::Malformed("the response has no status")) };
    make(status, version, &response, head)
}

/// The header as Pingora's type, which keeps an unusual reason phrase.
fn spelled_head(
    status: StatusCode,
    version: Version,
    response: &httparse::Response<'_, '_>,
    bytes: &Bytes,
) -> Result<(ResponseHeader, FieldNames), HeadError> {
    const INVALID: HeadError = HeadError::Malformed("a header field has invalid characters");
    let mut parts = http::Response::new(()).into_parts().0;
    (parts.status, parts.version) = (status, version);
    // Room for the fields that the gateway adds.
    parts.headers = HeaderMap::with_capacity(response.headers.len() + 2);
    let mut names = FieldNames::new(bytes, response.headers.len());
    for field in &*response.headers {
        names.push(field.name);
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| INVALID)?;
        parts.headers.try_append(name, value(field.value, bytes)?).map_err(|_| INVALID)?;
    }
    let mut head = ResponseHeader::from(parts);
    if response.reason != status.canonical_reason() {
        head.set_reason_phrase(response.reason).map_err(|_| INVALID)?;
    }
    Ok((head, names))
}

/// The fields found in `bytes`; only folded values are copied.
fn fields(bytes: &Bytes, found: &[httparse::Header<'_>]) -> Result<(HeaderMap, FieldNames), HeadError> {
    let mut fields = HeaderMap::with_capacity(found.len());
    let mut names = FieldNames::new(bytes, found.len());
    for field in found {
        let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else {
            return Err(HeadError::Malformed("a header field has invalid characters"));
        };
        fields.append(name, value(field.value, bytes)?);
        names.push(field.name);
    }
    Ok((fields, names))
}

/// A value found in `bytes`; only a folded one is copied.
fn value(found: &[u8], bytes: &Bytes) -> Result<HeaderValue, HeadError> {
    let value = match unfold(found) {
        Cow::Borrowed(value) => HeaderValue::from_maybe_shared(bytes.slice_ref(value)),
        Cow::Owned(value) => HeaderValue::from_maybe_shared(Bytes::from(value)),
    };
    value.map_err(|_| HeadError::Malformed("a header field has invalid characters"))
}

/// A value in which each line fold, with the blanks around it, is one space (RFC 9112 §5.2).
fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !value.iter().any(is_break) {
        return Cow::Borrowed(value);
    }
    let lines = value.split(is_break).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    Cow::Owned(lines.collect::<Vec<_>>().join(&b' '))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    async fn read_all(bytes: impl AsRef<[u8]>) -> Result<ResponseHead, HeadError> {
        read(&mut bytes.as_ref()).await
    }

    fn head_with(fields: usize) -> String {
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(fields))
    }

    #[tokio::test]
    async fn the_final_response_follows_any_interim_ones() {
        for interim in ["100 Continue", "102 Processing", "103 Early Hints", "199 X"] {
            let head = format!("HTTP/1.1 {interim}\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\nx: y\r\n\r\nbody");
            let head = read_all(head).await.unwrap();
            assert_eq!((head.status.as_u16(), &head.bytes[head.end..]), (503, &b"body"[..]), "{interim}");
            assert!(!head.fields.contains_key("link"));
        }
        let switching = read_all("HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        assert_eq!(switching.status.as_u16(), 101);
    }

    #[tokio::test]
    async fn the_limits_are_those_of_requests() {
        assert_eq!(read_all(head_with(MAX_FIELDS)).await.unwrap().fields.len(), MAX_FIELDS);
        assert!(matches!(read_all(head_with(MAX_FIELDS + 1)).await, Err(HeadError::Malformed(_))));
        let long = |size: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(size));
        assert!(read_all(long(MAX_HEAD - 64)).await.is_ok());
        assert!(matches!(read_all(long(2 * MAX_HEAD)).await, Err(HeadError::Malformed(_))));
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50_000);
        assert!(matches!(read_all(hints).await, Err(HeadError::Malformed(_))));
    }

    #[tokio::test]
    async fn heads_are_read_with_the_leniency_of_requests() {
        let head = "\r\n\r\nHTTP/1.0 200\nfolded: a\r\n  b\r\nspaced : c\r\n\r\n";
        let head = read_all(head).await.unwrap();
        assert_eq!(
            (head.version, &head.fields["spaced"]),
            (Version::HTTP_10, &HeaderValue::from_static("c"))
        );
        assert_eq!(head.fields["folded"], "a b");
    }

    #[tokio::test]
    async fn other_protocols_are_recognized_by_their_first_bytes() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        // The connection stays open, so only these bytes can end the wait.
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        assert!(matches!(read(&mut ours).await, Err(HeadError::Malformed(_))));
        assert!(matches!(read_all("HTTP/2 200 OK\r\n\r\n").await, Err(HeadError::Malformed(_))));
        assert!(matches!(read_all("HTTP/1.1 200 O").await, Err(HeadError::Closed)));
    }

    #[tokio::test]
    async fn framing_is_clear_when_the_body_has_one_end() {
        for (fields, is_clear) in [
            ("", true),
            ("content-length: 5\r\n", true),
            ("content-length: 5\r\ncontent-length: 5\r\n", true),
            ("content-length: 5, 5\r\n", true),
            ("content-length: 5\r\ncontent-length: 6\r\n", false),
            ("content-length: +5\r\n", false),
            ("content-length:\r\n", false),
            ("transfer-encoding: Chunked\r\n", true),
            ("transfer-encoding: chunked\r\ncontent-length: x\r\n", true),
            ("transfer-encoding: gzip, chunked\r\n", false),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", false),
        ] {
            let head = read_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await.unwrap();
            assert_eq!(head.has_clear_framing(), is_clear, "{fields}");
        }
        let old = read_all("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        assert!(!old.has_clear_framing());
    }

    type StatusAndFields = (u16, Vec<u8>);

    /// The headers at the start of bytes that arrive in these parts, and the bytes after them; `None` when
    /// they are malformed.
    fn take_all(parts: &[&[u8]]) -> Option<(Vec<StatusAndFields>, Vec<u8>)> {
        let (mut buffer, mut searched, mut heads) = (BytesMut::new(), 0, Vec::new());
        for part in parts {
            buffer.extend_from_slice(part);
            while let Some((head, names)) = take_next(&mut buffer, &mut searched).ok()? {
                let (mut fields, mut next) = (Vec::new(), 0);
                for (name, value) in &head.headers {
                    fields.extend_from_slice(names.spelled(name.as_str().as_bytes(), &mut next).unwrap());
                    fields.extend_from_slice(value.as_bytes());
                }
                heads.push((head.status.as_u16(), fields));
            }
        }
        Some((heads, buffer.to_vec()))
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_headers(
            words in prop::collection::vec(prop::sample::select(vec![
                "HTTP/1.1 200 OK\r\n", "HTTP/1.0 103\n", "\r\n", "\n", "\r", "a: b\r\n", "A : b\n", " c\r\n", "x",
            ]), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let wire = words.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|cut| &wire.as_bytes()[cut[0]..cut[1]]).collect();
            prop_assert_eq!(take_all(&parts), take_all(&[wire.as_bytes()]));
        }
    }
}
