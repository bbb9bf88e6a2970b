//! Parser of an HTTP/1 request header: parsed once, validated, and turned into Pingora's type.
//!
//! A header that the type cannot hold is kept beside it: a target with characters that `http::Uri` does not
//! allow, or in absolute form. The readable parts of a rejected header are kept too, for the response and
//! the log.

use crate::net::http1::body_decoder::RequestFraming;
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::head_end::line_ends;
use crate::proxy::failure::{Detail, Failure};
use crate::route::{BadTarget, is_carried, origin_form};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use memchr::memchr;
use pingora::http::RequestHeader;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// The number of fields that are parsed on the stack.
const INLINE_FIELDS: usize = 64;
/// The maximum number of fields of a request; a header map has no capacity for many more.
const MAX_FIELDS: usize = 16 << 10;
/// The fields of a rejected header that are kept, and the bytes of its first line that are logged.
const KEPT_FIELDS: usize = 64;
const KEPT_LINE: usize = 1 << 10;
/// The longest name that a header map accepts.
const MAX_NAME: usize = 60_000;
/// The digits of the largest 64-bit number. A longer length is rejected, since readers may disagree on it.
const MAX_LENGTH_DIGITS: usize = 20;

/// A received request header.
#[derive(Debug)]
pub(in crate::proxy) struct ReceivedHead {
    pub(in crate::proxy) header: RequestHeader,
    /// The received spelling of its field names.
    pub(in crate::proxy) names: FieldNames,
    /// The received size in bytes.
    pub(in crate::proxy) size: usize,
    pub(in crate::proxy) framing: RequestFraming,
    /// The received target, if the header has another form of it.
    pub(in crate::proxy) target: Option<Bytes>,
    /// The first line is not a request line, and is logged instead of the target.
    pub(in crate::proxy) has_no_method: bool,
    /// Why the request is rejected.
    pub(in crate::proxy) refused: Option<Failure>,
}

/// The failure for bytes that do not begin a request.
pub(in crate::proxy) fn not_http(first: u8) -> Failure {
    // The content type of a TLS record with a handshake message (RFC 8446 §5.1).
    bad(if first == 22 {
        "the client used TLS on a listener without `tls`"
    } else {
        "the first byte cannot begin an HTTP request"
    })
}

/// Returns whether a header can begin with this byte. Other bytes belong to another protocol, such as TLS.
pub(in crate::proxy) fn may_begin(byte: u8) -> bool {
    is_method(&[byte]) || matches!(byte, b'\r' | b'\n')
}

/// Parses a complete header, including its final empty line.
pub(in crate::proxy) fn parse(head: &Bytes) -> ReceivedHead {
    try_parse(head).unwrap_or_else(|failure| refuse(head, failure))
}

fn try_parse(head: &Bytes) -> Result<ReceivedHead, Failure> {
    // RFC 9112 §2.2 allows a bare LF as the end of a line. It is rejected, since hops may disagree on the
    // number of lines.
    let start = line_ends(head);
    let mut lines = 0;
    for at in memchr::memchr_iter(b'\n', &head[start..]) {
        lines += 1;
        if at == 0 || head[start + at - 1] != b'\r' {
            return Err(bad("a line does not end with CRLF"));
        }
    }
    if lines <= INLINE_FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; INLINE_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(head, &mut fields);
        return check_parsed(head, parsed, &request);
    }
    if lines > MAX_FIELDS {
        return Err(Failure::HeadTooLarge);
    }
    let mut fields = vec![httparse::EMPTY_HEADER; lines];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    check_parsed(head, parsed, &request)
}

fn check_parsed(
    head: &Bytes,
    parsed: httparse::Result<usize>,
    request: &httparse::Request<'_, '_>,
) -> Result<ReceivedHead, Failure> {
    match parsed {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {
            let framing = check_fields(request)?;
            convert(head, request, framing)
        }
        Ok(_) => Err(bad("the end of the header is ambiguous")),
        Err(error) => parse_with_encoded_target(head, error),
    }
}

/// Builds the header. Its target and values share the memory of the received bytes.
fn convert(
    head: &Bytes,
    request: &httparse::Request<'_, '_>,
    framing: RequestFraming,
) -> Result<ReceivedHead, Failure> {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default().as_bytes());
    let mut parts = http::Request::new(()).into_parts().0;
    let form = target_form(method, target)?;
    let uri = match &form {
        Cow::Borrowed(form) if *form == target => Uri::from_maybe_shared(head.slice_ref(target)),
        form => Uri::try_from(&**form),
    };
    parts.uri = uri.map_err(|_| BadTarget::Byte)?;
    parts.method =
        Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method has an invalid character"))?;
    parts.version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // Room for the fields that the gateway adds.
    parts.headers = HeaderMap::with_capacity(request.headers.len() + 4);
    let mut names = FieldNames::new(head, request.headers.len());
    for field in request.headers.iter() {
        names.push(field.name);
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| bad("a field name has an invalid character"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        let value = value.map_err(|_| bad("a field value has a control character"))?;
        parts.headers.try_append(name, value).map_err(|_| Failure::HeadTooLarge)?;
    }
    let target = (*form != *target).then(|| head.slice_ref(target));
    let header = RequestHeader::from(parts);
    Ok(ReceivedHead { header, names, size: head.len(), framing, target, has_no_method: false, refused: None })
}

/// The target as the header holds it.
fn target_form<'a>(method: &str, target: &'a [u8]) -> Result<Cow<'a, [u8]>, Failure> {
    if memchr(b'#', target).is_some() {
        return Err(Failure::from(BadTarget::Byte));
    }
    if method == Method::CONNECT.as_str() {
        // Its authority is irrelevant: CONNECT is rejected.
        return Ok(Cow::Borrowed(b"/"));
    }
    let is_path = target.first() == Some(&b'/') || target == b"*";
    if is_path && is_carried(target) {
        return Ok(Cow::Borrowed(target));
    }
    let form = origin_form(target, method.as_bytes()).ok_or(BadTarget::Form)?;
    if !is_carried(&form) {
        return Err(Failure::from(BadTarget::TooLong));
    }
    Ok(form)
}

/// Checks the fields that determine the end of a message and its host.
fn check_fields(request: &httparse::Request<'_, '_>) -> Result<RequestFraming, Failure> {
    let (mut hosts, mut lengths, mut codings, mut length) = (0, 0, 0, 0);
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => {
                hosts += 1;
                if memchr(b'@', field.value).is_some() {
                    return Err(bad("Host has a user name"));
                }
            }
            14 if is("content-length") => {
                lengths += 1;
                length = content_length(field.value).ok_or(bad("Content-Length is not a single number"))?;
            }
            17 if is("transfer-encoding") => {
                codings += 1;
                if !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("Transfer-Encoding is not `chunked`"));
                }
            }
            MAX_NAME.. => return Err(Failure::HeadTooLarge),
            _ => {}
        }
    }
    if hosts > 1 {
        return Err(bad("more than one Host field"));
    }
    if lengths > 1 {
        return Err(bad("more than one Content-Length field"));
    }
    if codings > 1 {
        return Err(bad("more than one Transfer-Encoding field"));
    }
    // RFC 9112 §6.3: a length beside a coding may be an attempt at request smuggling.
    if codings > 0 && lengths > 0 {
        return Err(bad("both Content-Length and Transfer-Encoding"));
    }
    if codings > 0 && request.version == Some(0) {
        return Err(bad("Transfer-Encoding in an HTTP/1.0 request"));
    }
    Ok(if codings > 0 { RequestFraming::Chunked } else { RequestFraming::Length(length) })
}

fn content_length(value: &[u8]) -> Option<u64> {
    let is_number = (1..=MAX_LENGTH_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// Parses a header that httparse rejects: only bytes in its target that are not UTF-8 are accepted.
fn parse_with_encoded_target(head: &[u8], error: httparse::Error) -> Result<ReceivedHead, Failure> {
    use httparse::Error;
    Err(match error {
        Error::HeaderName => bad("a field name has an invalid character"),
        Error::HeaderValue => bad("a field value has a control character"),
        // A fourth part: every line ends with CRLF, as was checked.
        Error::NewLine if RequestLine::of(head).is_some_and(|line| line.target.contains(&b' ')) => {
            bad("the request line has more than three parts")
        }
        Error::NewLine => bad("a line does not end with CRLF"),
        Error::Version => version_failure(head),
        _ => {
            let line = RequestLine::of(head);
            let line = line.ok_or(bad("the request line is not a method, a target and a version"))?;
            if std::str::from_utf8(line.target).is_err()
                && !line.target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
            {
                let after = &head[line.target_at + line.target.len()..];
                let encoded = [&head[..line.target_at], &encode(line.target), after].concat();
                let parsed = try_parse(&Bytes::from(encoded))?;
                let target = Some(Bytes::copy_from_slice(line.target));
                return Ok(ReceivedHead { size: head.len(), target, ..parsed });
            }
            match () {
                () if !may_begin(line.method.first().copied().unwrap_or(b' ')) => not_http(head[0]),
                () if !is_method(line.method) => bad("the method has an invalid character"),
                () => Failure::from(BadTarget::Byte),
            }
        }
    })
}

/// Percent-encodes the non-ASCII bytes.
fn encode(target: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(target.len() + 16);
    for byte in target {
        if byte.is_ascii() {
            out.push(*byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    out
}

/// `HTTP/2.0` is an unsupported version (RFC 9110 §15.6.6); `http/1.1` and `HTTP/x` are invalid.
fn version_failure(head: &[u8]) -> Failure {
    let line = RequestLine::of(head);
    if line.as_ref().is_some_and(|line| line.target.iter().any(|byte| *byte <= b' ')) {
        return Failure::from(BadTarget::Byte);
    }
    let version = line.map(|line| line.version);
    let is_version = |text: &[u8]| {
        matches!(text, [b'H', b'T', b'T', b'P', b'/', major, rest @ ..] if major.is_ascii_digit()
            && (rest.is_empty() || matches!(rest, [b'.', minor] if minor.is_ascii_digit())))
    };
    match version {
        Some(text) if is_version(text) => Failure::VersionNotSupported,
        _ => bad("the request line does not end with HTTP/1.1 or HTTP/1.0"),
    }
}

fn bad(detail: &'static str) -> Failure {
    Failure::BadRequest(Detail(detail))
}

/// A rejected or incomplete header with its readable parts.
pub(in crate::proxy) fn refuse(head: &[u8], failure: Failure) -> ReceivedHead {
    let size = head.len();
    let head = &head[line_ends(head)..];
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let line = RequestLine::of(head).filter(|line| is_method(line.method));
    let method = line.as_ref().and_then(|line| Method::from_bytes(line.method).ok());
    let method = method.filter(|method| *method != Method::CONNECT);
    let shown = line.as_ref().filter(|_| method.is_some()).map_or(first, |line| line.target);
    let mut header = rejected_header(method.clone().unwrap_or_default());
    if line.is_some_and(|line| line.version == b"HTTP/1.0") {
        header.set_version(Version::HTTP_10);
    }
    add_readable_fields(&mut header, lines.take_while(|line| !line.is_empty()));
    ReceivedHead {
        header,
        names: FieldNames::default(),
        size,
        framing: RequestFraming::Length(0),
        target: Some(Bytes::copy_from_slice(&shown[..shown.len().min(KEPT_LINE)])),
        has_no_method: method.is_none(),
        refused: Some(failure),
    }
}

fn rejected_header(method: Method) -> RequestHeader {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = method;
    RequestHeader::from(parts)
}

/// Adds the first valid fields, except those of the message's framing and its connection.
fn add_readable_fields<'a>(header: &mut RequestHeader, lines: impl Iterator<Item = &'a [u8]>) {
    const SKIPPED: [&[u8]; 5] =
        [b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"];
    let mut left = KEPT_FIELDS;
    let mut has_host = false;
    for line in lines {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if left == 0
            || name.len() >= MAX_NAME
            || SKIPPED.iter().any(|skipped| name.eq_ignore_ascii_case(skipped))
        {
            continue;
        }
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        left -= 1;
        if name == http::header::HOST
            && (std::mem::replace(&mut has_host, true) || memchr(b'@', value.as_bytes()).is_some())
        {
            continue;
        }
        // The map has room for them.
        let _ = header.append_header(name, value);
    }
}

/// The three parts of a request line.
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
    /// The target's offset in the header.
    target_at: usize,
}

impl<'a> RequestLine<'a> {
    /// Splits at the space after the method and the last one before the version; the target may contain more.
    fn of(head: &'a [u8]) -> Option<Self> {
        let start = line_ends(head);
        let rest = &head[start..];
        let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = memchr(b' ', line)?;
        let last = memchr::memrchr(b' ', line).filter(|last| *last > first)?;
        let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
        Some(Self { method, target, version, target_at: start + first + 1 })
    }
}

fn is_method(text: &[u8]) -> bool {
    Method::from_bytes(text).is_ok()
}

#[cfg(test)]
mod tests;
