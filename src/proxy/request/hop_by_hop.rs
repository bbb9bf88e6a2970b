//! Hop-by-hop fields: those that `Connection` nominates, `Via`, `Max-Forwards` (RFC 9110 §7.6). Fields that
//! identify the client are in `x_forwarded`.

use crate::net::http1::response_head::has_clear_framing;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use moongate_sdk::Fields;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr, Result};

/// RFC 9110 §7.6.3, with the gateway's pseudonym; the version is that of the received message.
const VIA: HeaderValue = HeaderValue::from_static("1.1 moongate");
const VIA_2: HeaderValue = HeaderValue::from_static("2.0 moongate");

/// The tokens that may stay in a request's `Connection`: connection options, fields that Pingora refuses as nominations, and
/// `TE`, which tells whether the client accepts trailers.
const STAYS: [&str; 11] = [
    "te",
    "close",
    "keep-alive",
    "upgrade",
    "connection",
    "host",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Removes the fields that a client's `Connection` nominates (RFC 9110 §7.6.1), and the nominations, which are returned. It
/// runs before the plugins, so that fields that they set under such a name are not removed later.
///
/// # Errors
/// When a value is invalid in a field, which the parser has excluded.
pub(in crate::proxy) fn end_nominated(head: &mut RequestHeader) -> Result<Vec<HeaderName>> {
    let all = head.headers.get_all(header::CONNECTION);
    let tokens =
        || all.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // Almost every request has `close`, `keep-alive` or nothing there.
    if tokens().all(stays) {
        return Ok(Vec::new());
    }
    // An invalid field name stays, to be rejected.
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    for token in tokens() {
        match HeaderName::from_bytes(token) {
            Ok(name) if !stays(token) => names.push(name),
            _ => kept.push(token),
        }
    }
    let kept = kept.join(&b", "[..]);
    for name in &names {
        head.remove_header(name);
    }
    head.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        head.insert_header(header::CONNECTION, kept)?;
    }
    Ok(names)
}

/// Returns whether a token of `Connection` does not nominate a field to remove.
fn stays(token: &[u8]) -> bool {
    // The fields of a WebSocket handshake cannot be nominated.
    let handshakes = token.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"));
    token.is_empty() || handshakes || STAYS.iter().any(|name| token.eq_ignore_ascii_case(name.as_bytes()))
}

/// Prepares a request's fields for the backend; `received` is the received version, if the gateway adds
/// `Via`.
pub(in crate::proxy) fn request(fields: &mut impl Fields, received: Option<Version>) {
    let left =
        fields.map().get(header::MAX_FORWARDS).and_then(|left| left.to_str().ok()?.parse::<u32>().ok());
    if let Some(left) = left {
        fields.set(&header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
    if let Some(version) = received {
        fields.append(&header::VIA, if version == Version::HTTP_2 { VIA_2 } else { VIA });
    }
}

/// A field value from text made by the gateway.
///
/// # Errors
/// When it has characters that are invalid in a value.
pub(in crate::proxy) fn value(text: impl Into<Vec<u8>>) -> Result<HeaderValue> {
    HeaderValue::try_from(text.into()).or_err(ErrorType::InvalidHTTPHeader, "not a field value")
}

/// Returns whether the end of a backend's response is unambiguous (RFC 9112 §6.3), as for health checks.
/// Repeated equal lengths become one, and a length beside `chunked` is removed (RFC 9112 §6.3).
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn frame_is_clear(head: &mut ResponseHeader) -> Result<bool> {
    // Most responses have one length and nothing else.
    let is_framing =
        |name: &&HeaderName| matches!(**name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING);
    let mut framing = head.headers.keys().filter(is_framing);
    let first = framing.next();
    let is_plain = match first {
        None => true,
        Some(name) => *name == header::CONTENT_LENGTH && framing.next().is_none() && has_plain_length(head),
    };
    if is_plain && head.status != StatusCode::NO_CONTENT && !head.status.is_informational() {
        return Ok(true);
    }
    // RFC 9110 §8.6, RFC 9112 §6.1: neither 1xx nor 204 has a length or a coding.
    if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
        return Ok(true);
    }
    if !has_clear_framing(head.status, head.version, &head.headers) {
        return Ok(false);
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(true) };
    if lengths.next().is_some() || first.as_bytes().contains(&b',') {
        let one =
            first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii().to_vec();
        head.insert_header(header::CONTENT_LENGTH, one)?;
    }
    Ok(true)
}

/// Returns whether the only length is one number.
fn has_plain_length(head: &ResponseHeader) -> bool {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| length.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
    let is_digits = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    lengths.next().is_some_and(|length| is_digits(length) && is_number(length)) && lengths.next().is_none()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION | header::TE | header::TRAILER | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// Prepares a response's fields for the client: hop-by-hop fields are removed. Returns those that `Connection` nominates,
/// which no trailer may be either.
///
/// # Errors
/// When a value is invalid in a field, which is excluded.
pub(in crate::proxy) fn response(head: &mut ResponseHeader, via: bool) -> Result<Vec<HeaderName>> {
    let has_any = head.headers.keys().any(is_hop_by_hop);
    let nominated = if has_any { remove_hop_by_hop(head) } else { Vec::new() };
    if via {
        let via = if head.version == Version::HTTP_2 { VIA_2 } else { VIA };
        head.append_header(header::VIA, via)?;
    }
    Ok(nominated)
}

fn remove_hop_by_hop(head: &mut ResponseHeader) -> Vec<HeaderName> {
    let nominated: Vec<_> = nominated(&head.headers).collect();
    for name in &nominated {
        head.remove_header(name);
    }
    if head.headers.contains_key(header::CONNECTION) {
        head.remove_header(&header::CONNECTION);
    }
    for name in ["keep-alive", "proxy-connection", "te"] {
        if head.headers.contains_key(name) {
            head.remove_header(name);
        }
    }
    // Over HTTP/1.1 only a body in chunks has trailers.
    let has_trailers =
        head.version == Version::HTTP_2 || head.headers.contains_key(header::TRANSFER_ENCODING);
    if head.headers.contains_key(header::TRAILER) && !has_trailers {
        head.remove_header(&header::TRAILER);
    }
    // RFC 9110 §15.5.22: a 426 names the required protocols.
    if head.status != StatusCode::UPGRADE_REQUIRED && head.headers.contains_key(header::UPGRADE) {
        head.remove_header(&header::UPGRADE);
    }
    nominated
}

/// The fields that `Connection` nominates (RFC 9110 §7.6.1), except those of the framing.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> + '_ {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| {
            !matches!(
                *name,
                header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::HOST | header::UPGRADE
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_response_loses_its_hop_by_hop_fields() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "x-secret, close"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("upgrade", "h2c"),
            ("x-a", "1"),
        ] {
            head.append_header(name, value).unwrap();
        }
        response(&mut head, false).unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-a"]);
    }
}
