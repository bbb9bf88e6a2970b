//! Validation of requests: ambiguous framing and targets are rejected before any other processing. Otherwise
//! one hop could read two requests where another reads one (RFC 9112 §11.2).
//!
//! `head_parser` has rejected some errors of HTTP/1 before; these rules hold for HTTP/2 too.

use crate::proxy::failure::{Detail, Failure};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;

/// Longer than any registered method.
const LONGEST_METHOD: usize = 32;

/// Validates the framing fields of a header.
///
/// # Errors
/// The failure to respond with.
pub(in crate::proxy) fn check(head: &RequestHeader) -> Result<(), Failure> {
    if head.method.as_str().len() > LONGEST_METHOD {
        return Err(Failure::NotImplemented);
    }
    // RFC 9110 §9.3.6: CONNECT to an arbitrary destination is for forward proxies. An extended CONNECT names
    // a protocol within HTTP/2 (RFC 8441 §4).
    if head.method == Method::CONNECT {
        let extended = head.extensions.get::<h2::ext::Protocol>().is_some();
        return Err(if extended { Failure::NotImplemented } else { Failure::MethodNotAllowed });
    }
    if head.version == Version::HTTP_2 {
        check_path(head)?;
        check_values(&head.headers)?;
        // `head_parser` has checked those of HTTP/1.
        check_length(&head.headers)?;
        check_coding(&head.headers)?;
    }
    check_trace(head)?;
    check_host(head)
}

/// Validates what only HTTP/2 can contradict, before conversion to HTTP/1 (RFC 9113 §8.3.1).
///
/// # Errors
/// The failure to respond with.
pub(in crate::proxy) fn check_stream(head: &RequestHeader) -> Result<(), Failure> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, authority) = (hosts.next(), head.uri.authority());
    if hosts.next().is_some() {
        return Err(bad("Host is missing or repeated"));
    }
    let has_user = host.is_some_and(|host| host.as_bytes().contains(&b'@'))
        || authority.is_some_and(|authority| authority.as_str().contains('@'));
    if has_user {
        return Err(bad("the authority has userinfo"));
    }
    if host.is_none() && authority.is_none() {
        return Err(bad(":authority and Host are missing"));
    }
    if let Some((host, authority)) = host.zip(authority)
        && !is_same_authority(host.as_bytes(), authority, head.uri.scheme_str())
    {
        return Err(bad("Host and :authority differ"));
    }
    let target = head.raw_path();
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(bad("the :path has whitespace or a control character"));
    }
    let is_connect = head.method == Method::CONNECT && head.extensions.get::<h2::ext::Protocol>().is_none();
    if !is_connect && !matches!(target.first(), None | Some(b'/' | b'*')) {
        return Err(bad("the :path does not begin with a slash"));
    }
    Ok(())
}

/// Returns whether both name one host and port: case-insensitive, and with the scheme's default port explicit
/// or omitted.
fn is_same_authority(host: &[u8], authority: &Authority, scheme: Option<&str>) -> bool {
    let default_port = match scheme {
        Some("http") => ":80",
        Some("https") => ":443",
        _ => "",
    };
    let authority = authority.as_str();
    let without_port =
        |text: &'_ [u8]| text.strip_suffix(default_port.as_bytes()).map_or(text.len(), <[u8]>::len);
    let (host, authority) =
        (&host[..without_port(host)], &authority.as_bytes()[..without_port(authority.as_bytes())]);
    host.eq_ignore_ascii_case(authority)
}

fn bad(detail: &'static str) -> Failure {
    Failure::BadRequest(Detail(detail))
}

/// RFC 9113 §8.3.1: a request has a non-empty `:path`. h2 accepts one without it if Host replaces
/// `:authority`.
fn check_path(head: &RequestHeader) -> Result<(), Failure> {
    if head.uri.path().is_empty() { Err(bad(":path is missing")) } else { Ok(()) }
}

/// RFC 9113 §8.2.1: a value has no leading or trailing whitespace. HTTP/1 strips whitespace, so the backend
/// would read another value than plugins and routes.
fn check_values(headers: &HeaderMap) -> Result<(), Failure> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = headers.values().map(HeaderValue::as_bytes);
    if values.any(|value| is_blank(value.first()) || is_blank(value.last())) {
        return Err(bad("a field value begins or ends with whitespace"));
    }
    Ok(())
}

/// RFC 9112 §6.3: a list of equal lengths may be collapsed or rejected. Pingora would forward it unchanged,
/// and the next hop might interpret it otherwise, so it is rejected.
fn check_length(headers: &HeaderMap) -> Result<(), Failure> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(()) };
    let plain = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    if !plain || values.next().is_some() {
        return Err(bad("Content-Length is not a single number"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("both Content-Length and Transfer-Encoding"));
    }
    Ok(())
}

/// RFC 9112 §6.1: `chunked`, once, and nothing else. Other codings would be lost, since the body is framed
/// anew.
fn check_coding(headers: &HeaderMap) -> Result<(), Failure> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = values.next() else { return Ok(()) };
    let chunked = first.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !chunked || values.next().is_some() {
        return Err(bad("Transfer-Encoding is not `chunked`"));
    }
    Ok(())
}

/// RFC 9110 §9.3.8: a TRACE has no content. The next hop might parse the content as the next request.
fn check_trace(head: &RequestHeader) -> Result<(), Failure> {
    let is_zero = |length: &HeaderValue| length.as_bytes().iter().all(|digit| *digit == b'0');
    let empty = head.headers.get(header::CONTENT_LENGTH).is_none_or(is_zero);
    if head.method == Method::TRACE && (!empty || head.headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(bad("TRACE with a body"));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one Host with HTTP/1.1. The route's target validates its value.
fn check_host(head: &RequestHeader) -> Result<(), Failure> {
    let mut values = head.headers.get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() || (first.is_none() && head.version == Version::HTTP_11) {
        return Err(bad("Host is missing or repeated"));
    }
    Ok(())
}

/// Returns whether an OPTIONS or TRACE is not forwarded: its `Max-Forwards` is 0, in any spelling (RFC 9110
/// §7.6.2).
pub(in crate::proxy) fn ends_here(head: &RequestHeader) -> bool {
    let is_zero = |left: &HeaderValue| {
        let digits = left.as_bytes().trim_ascii();
        !digits.is_empty() && digits.iter().all(|digit| *digit == b'0')
    };
    matches!(head.method, Method::OPTIONS | Method::TRACE)
        && head.headers.get_all(header::MAX_FORWARDS).iter().any(is_zero)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn one_length_or_one_chunked_is_a_request() {
        assert_eq!(check(&head(&[("host", "a"), ("content-length", "5")])), Ok(()));
        assert_eq!(check(&head(&[("host", "a"), ("transfer-encoding", "Chunked")])), Ok(()));
    }

    #[test]
    fn a_trace_has_no_content() {
        for (fields, fine) in [
            (&[("host", "a")][..], true),
            (&[("host", "a"), ("content-length", "0")], true),
            (&[("host", "a"), ("content-length", "3")], false),
            (&[("host", "a"), ("transfer-encoding", "chunked")], false),
        ] {
            let mut head = head(fields);
            head.set_method(Method::TRACE);
            assert_eq!(check(&head).is_ok(), fine, "{fields:?}");
        }
    }

    #[test]
    fn max_forwards_of_0_ends_options_and_trace_alone() {
        for (method, left, ends) in [
            (Method::OPTIONS, "0", true),
            (Method::TRACE, "000", true),
            (Method::OPTIONS, "1", false),
            (Method::OPTIONS, "", false),
            (Method::OPTIONS, "0x", false),
            (Method::GET, "0", false),
        ] {
            let mut head = head(&[("host", "a"), ("max-forwards", left)]);
            head.set_method(method.clone());
            assert_eq!(ends_here(&head), ends, "{method} {left}");
        }
    }

    #[test]
    fn framing_with_two_readings_is_refused() {
        for fields in [
            &[("host", "a"), ("content-length", "5, 5")][..],
            &[("host", "a"), ("content-length", "5"), ("content-length", "5")],
            &[("host", "a"), ("content-length", "+5")],
            &[("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("host", "a"), ("host", "b")],
        ] {
            let mut head = head(fields);
            head.set_version(Version::HTTP_2);
            assert!(matches!(check(&head), Err(Failure::BadRequest(_))), "{fields:?}");
        }
        assert!(matches!(check(&head(&[])), Err(Failure::BadRequest(_))));
    }
}
