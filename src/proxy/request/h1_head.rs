//! HTTP/1 request header as received, validated before Pingora parses it.
//!
//! Pingora responds itself to requests that its parser rejects, without a hook, a log line or a metric. Some
//! of them are valid or common: characters that `http::Uri` does not allow, more than 256 fields, an absolute
//! target whose authority differs from Host. So the parser gets a header that it always accepts: the received
//! one, a translation, or the parts of a rejected one that the response and the log need. The received header
//! is kept beside it.

use crate::proxy::failure::{Detail, Failure};
use crate::route::{BadTarget, is_carried, origin_form};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use memchr::memchr;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// The number of fields that Pingora's parser accepts.
const PARSED_FIELDS: usize = 256;
/// The maximum number of fields of a request; a header map has no capacity for many more.
const MAX_FIELDS: usize = 16 << 10;
/// The fields of a rejected header that are kept, and the bytes of its first line that are logged.
const KEPT_FIELDS: usize = 64;
const KEPT_LINE: usize = 1 << 10;
/// The longest name that a header map accepts.
const MAX_NAME: usize = 60_000;
/// The largest header that Pingora's parser accepts, minus what a translation adds.
pub(in crate::proxy) const MAX_SIZE: usize = 850_000;

/// How a header is passed to the parser.
#[derive(Debug)]
pub(in crate::proxy) enum Judgement {
    /// Unchanged.
    Plain,
    /// As this header.
    Other(Vec<u8>, Box<SentHead>),
}

/// The parts of the received header that the parser does not see.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SentHead {
    /// The request target.
    pub(in crate::proxy) target: Option<Bytes>,
    /// The first line is not a request line, and is logged instead of the target.
    pub(in crate::proxy) has_no_method: bool,
    /// Fields above the parser's limit, with their received names.
    pub(in crate::proxy) fields: Vec<(Bytes, HeaderValue)>,
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

/// Validates a complete header, including its final empty line.
pub(in crate::proxy) fn judge(head: &[u8]) -> Judgement {
    // RFC 9112 §2.2 allows a bare LF as the end of a line. It is rejected, since hops may disagree on the
    // number of lines.
    let start = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if memchr::memchr_iter(b'\n', &head[start..]).any(|at| at == 0 || head[start + at - 1] != b'\r') {
        return refuse(head, bad("a line does not end with CRLF"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; PARSED_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut fields);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        return judge_long(head);
    }
    match parsed {
        Ok(httparse::Status::Complete(size)) if size == head.len() => judge_parsed(head, &request),
        Ok(_) => refuse(head, bad("the end of the header is ambiguous")),
        Err(error) => judge_unparsed(head, error),
    }
}

/// Validates a header with more fields than Pingora's parser accepts.
fn judge_long(head: &[u8]) -> Judgement {
    let lines = memchr::memchr_iter(b'\n', head).count();
    if lines > MAX_FIELDS {
        return refuse(head, Failure::HeadTooLarge);
    }
    let mut fields = vec![httparse::EMPTY_HEADER; lines];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => judge_parsed(head, &request),
        Ok(_) => refuse(head, bad("the end of the header is ambiguous")),
        Err(error) => judge_unparsed(head, error),
    }
}

fn judge_parsed(head: &[u8], request: &httparse::Request<'_, '_>) -> Judgement {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default().as_bytes());
    if let Err(failure) = check_fields(request) {
        return refuse(head, failure);
    }
    judge_target(head, method, target, request.headers)
}

fn judge_target(head: &[u8], method: &str, target: &[u8], fields: &[httparse::Header<'_>]) -> Judgement {
    if memchr(b'#', target).is_some() {
        return refuse(head, Failure::from(BadTarget::Byte));
    }
    if method == Method::CONNECT.as_str() {
        // Its authority is irrelevant: CONNECT is rejected.
        return translate(head, method, target, b"/", fields);
    }
    let is_path = target.first() == Some(&b'/') || target == b"*";
    if is_path && fields.len() <= PARSED_FIELDS && is_carried(target) && std::str::from_utf8(target).is_ok() {
        return Judgement::Plain;
    }
    match origin_form(target, method.as_bytes()) {
        None => refuse(head, Failure::from(BadTarget::Form)),
        Some(given) if !is_carried(&given) => refuse(head, Failure::from(BadTarget::TooLong)),
        Some(given) => translate(head, method, target, &in_utf8(&given), fields),
    }
}

/// Checks for fields that Pingora's parser would reject.
fn check_fields(request: &httparse::Request<'_, '_>) -> Result<(), Failure> {
    let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
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
                let digits = !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
                let fits = std::str::from_utf8(field.value).is_ok_and(|text| text.parse::<u64>().is_ok());
                if !digits || !fits {
                    return Err(bad("Content-Length is not a single number"));
                }
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
    if codings > 0 && request.version == Some(0) {
        return Err(bad("Transfer-Encoding in an HTTP/1.0 request"));
    }
    Ok(())
}

/// Validates a header that httparse rejects: only non-ASCII bytes in its target are accepted.
fn judge_unparsed(head: &[u8], error: httparse::Error) -> Judgement {
    use httparse::Error;
    let failure = match error {
        Error::HeaderName => bad("a field name has an invalid character"),
        Error::HeaderValue => bad("a field value has a control character"),
        Error::NewLine => bad("a line does not end with CRLF"),
        Error::Version => version_failure(head),
        _ => {
            let Some(line) = RequestLine::of(head) else {
                return refuse(head, bad("the request line is missing"));
            };
            if std::str::from_utf8(line.target).is_err()
                && !line.target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
            {
                return judge_in_utf8(head, &line);
            }
            match () {
                () if !may_begin(line.method.first().copied().unwrap_or(b' ')) => not_http(head[0]),
                () if !is_method(line.method) => bad("the method has an invalid character"),
                () => Failure::from(BadTarget::Byte),
            }
        }
    };
    refuse(head, failure)
}

/// Validates a header with a target that is not UTF-8, by encoding the target.
fn judge_in_utf8(head: &[u8], line: &RequestLine<'_>) -> Judgement {
    let encoded = with_target(head, line, &in_utf8(line.target));
    match judge(&encoded) {
        Judgement::Plain => {
            let sent = SentHead { target: Some(Bytes::copy_from_slice(line.target)), ..SentHead::default() };
            Judgement::Other(encoded, Box::new(sent))
        }
        Judgement::Other(given, mut sent) => {
            sent.target = Some(Bytes::copy_from_slice(line.target));
            Judgement::Other(given, sent)
        }
    }
}

/// Percent-encodes the non-ASCII bytes of a text that is not UTF-8.
fn in_utf8(target: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(target).is_ok() {
        return Cow::Borrowed(target);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(target.len() + 16);
    for byte in target {
        match byte {
            0x80.. => {
                out.extend_from_slice(&[
                    b'%',
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]);
            }
            byte => out.push(*byte),
        }
    }
    Cow::Owned(out)
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

/// The header with another target, and at most the parser's number of fields, framing fields included.
fn translate(
    head: &[u8],
    method: &str,
    target: &[u8],
    given: &[u8],
    fields: &[httparse::Header<'_>],
) -> Judgement {
    let mut sent = SentHead::default();
    if given != target {
        sent.target = Some(Bytes::copy_from_slice(target));
    }
    let Some(line) = RequestLine::of(head) else { return refuse(head, bad("the request line is missing")) };
    if fields.len() <= PARSED_FIELDS {
        return Judgement::Other(with_target(head, &line, given), Box::new(sent));
    }
    let frames =
        |field: &&httparse::Header<'_>| FRAMING.iter().any(|name| field.name.eq_ignore_ascii_case(name));
    let first = fields.iter().filter(frames);
    if first.clone().count() > KEPT_FIELDS {
        return refuse(head, Failure::HeadTooLarge);
    }
    let mut out = request_line(method.as_bytes(), given, line.version, head.len());
    let rest = fields.iter().filter(|field| !frames(field));
    let mut written = 0;
    for field in first.chain(rest) {
        if written < PARSED_FIELDS {
            written += 1;
            write_field(&mut out, field.name.as_bytes(), field.value);
        } else if let Ok(value) = HeaderValue::from_bytes(field.value) {
            sent.fields.push((Bytes::copy_from_slice(field.name.as_bytes()), value));
        }
    }
    out.extend_from_slice(b"\r\n");
    Judgement::Other(out, Box::new(sent))
}

/// Fields that determine the end of a message, its host and its connection.
const FRAMING: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"];

/// The header for the parser in place of a rejected or incomplete one, with its readable parts.
pub(in crate::proxy) fn refuse(head: &[u8], failure: Failure) -> Judgement {
    let head = &head[head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let line = RequestLine::of(head).filter(|line| is_method(line.method));
    let mut sent = SentHead { refused: Some(failure), ..SentHead::default() };
    let (method, shown) = match &line {
        Some(line) if line.method != b"CONNECT" => (line.method, line.target),
        Some(line) => (&b"GET"[..], line.target),
        None => (&b"GET"[..], first),
    };
    sent.has_no_method = line.as_ref().is_none_or(|line| line.method != method);
    let shown = if sent.has_no_method { first } else { shown };
    sent.target = Some(Bytes::copy_from_slice(&shown[..shown.len().min(KEPT_LINE)]));
    let version =
        if line.is_some_and(|line| line.version == b"HTTP/1.0") { &b"HTTP/1.0"[..] } else { b"HTTP/1.1" };
    let mut out = request_line(method, b"/", version, 256);
    let mut has_host = false;
    let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = memchr(b':', line)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name_fits = name.len() < MAX_NAME && HeaderName::from_bytes(name).is_ok();
        let frames = FRAMING[1..].iter().any(|framing| name.eq_ignore_ascii_case(framing.as_bytes()));
        (name_fits && !frames && HeaderValue::from_bytes(value).is_ok()).then_some((name, value))
    });
    for (name, value) in fields.take(KEPT_FIELDS) {
        let is_host = name.eq_ignore_ascii_case(b"host");
        if is_host && (std::mem::replace(&mut has_host, true) || memchr(b'@', value).is_some()) {
            continue;
        }
        write_field(&mut out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Judgement::Other(out, Box::new(sent))
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
        let start = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
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

/// Returns whether a header can begin with this byte. Other bytes belong to another protocol, such as TLS.
pub(in crate::proxy) fn may_begin(byte: u8) -> bool {
    is_method(&[byte]) || matches!(byte, b'\r' | b'\n')
}

fn with_target(head: &[u8], line: &RequestLine<'_>, target: &[u8]) -> Vec<u8> {
    let behind = &head[line.target_at + line.target.len()..];
    [&head[..line.target_at], target, behind].concat()
}

fn request_line(method: &[u8], target: &[u8], version: &[u8], room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(room + target.len());
    for part in [method, b" ", target, b" ", version, b"\r\n"] {
        out.extend_from_slice(part);
    }
    out
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
