//! gRPC: detection of calls, and rejections in gRPC's form (PROTOCOL-HTTP2.md of gRPC).

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::RequestHeader;
use std::time::Duration;

const NAME: &str = "application/grpc";
/// The media type of calls and responses.
pub(in crate::proxy) const MEDIA: HeaderValue = HeaderValue::from_static(NAME);
pub(in crate::proxy) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(in crate::proxy) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Returns whether a request is a call: HTTP/2, POST, `te: trailers` and `application/grpc`, with or without
/// a message encoding. `application/grpc-web` is ordinary HTTP. The other conditions keep a client from
/// evading timeouts by the media type alone.
pub(in crate::proxy) fn is_call(head: &RequestHeader) -> bool {
    let Some(media) = head.headers.get(header::CONTENT_TYPE) else { return false };
    if head.version != Version::HTTP_2
        || head.method != Method::POST
        || head.headers.get(header::TE).is_none_or(|te| te != "trailers")
    {
        return false;
    }
    let Some((start, rest)) = media.as_bytes().split_at_checked(NAME.len()) else { return false };
    start.eq_ignore_ascii_case(NAME.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The status of a call whose deadline has passed.
pub(in crate::proxy) const DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");

/// The time that the client gives its call (`grpc-timeout`).
pub(in crate::proxy) fn timeout(head: &RequestHeader) -> Option<Duration> {
    let value = head.headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The gRPC status for an HTTP status, by gRPC's http-grpc-status-mapping.md; RESOURCE_EXHAUSTED for bodies
/// and headers that are too large.
pub(in crate::proxy) fn status(status: StatusCode) -> HeaderValue {
    HeaderValue::from_static(match status.as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 | 405 | 501 => "12",
        413 | 431 => "8",
        429 | 502..=504 => "14",
        _ => "2",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use http::Request;

    fn head(method: &str, version: Version, fields: &[(&str, &str)]) -> RequestHeader {
        let mut request = Request::builder().method(method).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        RequestHeader::from(request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_call_is_detected_by_its_media_type() {
        let is =
            |media| is_call(&head("POST", Version::HTTP_2, &[("te", "trailers"), ("content-type", media)]));
        assert!(["application/grpc", "application/grpc+proto", "Application/gRPC;x=y"].into_iter().all(is));
        assert!(!["application/grpc-web", "application/grpcx", "application/json", "a"].into_iter().any(is));
        assert!(!is_call(&head("POST", Version::HTTP_2, &[("te", "trailers")])));
    }

    #[test]
    fn a_call_is_a_post_of_http_2_that_takes_trailers() {
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        assert!(is_call(&head("POST", Version::HTTP_2, &fields)));
        assert!(!is_call(&head("POST", Version::HTTP_11, &fields)));
        assert!(!is_call(&head("GET", Version::HTTP_2, &fields)));
        assert!(!is_call(&head("POST", Version::HTTP_2, &fields[..1])));
    }
}
