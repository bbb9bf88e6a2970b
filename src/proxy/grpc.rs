//! What gRPC wants of a gateway besides HTTP/2: calls that may last, and refusals that its clients can read
//! (the protocol is described in gRPC's PROTOCOL-HTTP2.md).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

const NAME: &str = "application/grpc";
/// The media type of calls and answers.
pub(super) const MEDIA: HeaderValue = HeaderValue::from_static(NAME);
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether these are the fields of a call: `application/grpc`, alone or with the coding of its messages. What
/// browsers speak (`application/grpc-web`) is ordinary HTTP.
pub(super) fn is_call(fields: &HeaderMap) -> bool {
    let Some(media) = fields.get(header::CONTENT_TYPE) else { return false };
    let Some((start, rest)) = media.as_bytes().split_at_checked(NAME.len()) else { return false };
    start.eq_ignore_ascii_case(NAME.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The status of gRPC for one of HTTP, as gRPC's http-grpc-status-mapping.md has it for clients; with
/// RESOURCE_EXHAUSTED for what is too large.
pub(super) fn status(status: StatusCode) -> HeaderValue {
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
    use super::*;

    #[test]
    fn a_call_is_told_by_its_media_type() {
        let is = |media: &'static str| {
            is_call(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]))
        };
        assert!(["application/grpc", "application/grpc+proto", "Application/gRPC;x=y"].into_iter().all(is));
        assert!(!["application/grpc-web", "application/grpcx", "application/json", "a"].into_iter().any(is));
        assert!(!is_call(&HeaderMap::new()));
    }
}
