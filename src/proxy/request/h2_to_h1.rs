//! Conversion of an HTTP/2 request to the form of HTTP/1, which routes, plugins and backends use.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, header};
use pingora::http::RequestHeader;

/// The size of a header as RFC 9113 §6.5.2 defines it.
pub(in crate::proxy) fn size(head: &RequestHeader) -> usize {
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    fields + head.raw_path().len() + authority + head.method.as_str().len()
}

/// Converts `:authority` to Host (RFC 9113 §8.3.1; an equal Host was checked before) and joins split cookie
/// fields (§8.2.3). A body without a length is marked as chunked, since plugins test for that. The field is
/// not sent to HTTP/2 backends.
pub(in crate::proxy) fn make(head: &mut RequestHeader, bodiless: bool) {
    if let Some(host) = head.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        // Conversion of a HeaderName and a HeaderValue cannot fail.
        let _ = head.insert_header(header::HOST, host);
    }
    // A CONNECT has only an authority.
    if head.method != Method::CONNECT && head.uri.authority().is_some() {
        let target = head.uri.path_and_query().cloned();
        head.set_uri(Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/"))));
    }
    if !bodiless && head.method != Method::CONNECT && !head.headers.contains_key(header::CONTENT_LENGTH) {
        let _ = head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut cookies = head.headers.get_all(header::COOKIE).iter();
    if cookies.nth(1).is_some() {
        let all: Vec<_> = head.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        // Each value is valid, and so is the separator.
        if let Ok(one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            let _ = head.insert_header(header::COOKIE, one);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use http::Request;

    fn head(uri: &str, fields: &[(&str, &str)]) -> RequestHeader {
        let mut request = Request::builder().uri(uri).version(http::Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        RequestHeader::from(request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_authority_becomes_host_and_the_target_a_path() {
        let mut head = head("https://a.example:8443/x?y=%20", &[]);
        make(&mut head, true);
        assert_eq!(head.headers[header::HOST], "a.example:8443");
        assert_eq!(head.raw_path(), b"/x?y=%20");
        assert!(head.uri.authority().is_none());
    }

    #[test]
    fn a_host_field_alone_stays() {
        let mut head = head("/x", &[("host", "a.example")]);
        make(&mut head, true);
        assert_eq!(head.headers[header::HOST], "a.example");
        assert_eq!(head.raw_path(), b"/x");
    }

    #[test]
    fn a_body_without_a_length_is_chunked() {
        for (fields, framed) in [(&[][..], true), (&[("content-length", "5")], false)] {
            let mut head = head("https://a/", fields);
            make(&mut head, false);
            assert_eq!(head.headers.contains_key(header::TRANSFER_ENCODING), framed, "{fields:?}");
        }
    }

    #[test]
    fn pieces_of_cookies_become_one_field() {
        let mut head = head("https://a/", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        make(&mut head, true);
        let all: Vec<_> = head.headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }
}
