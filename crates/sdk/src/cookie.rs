//! Parsing of the Cookie field.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The first cookie of that name (RFC 6265 §4.2), without surrounding quotes.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    cookies(headers, name).next()
}

/// Every cookie of that name, in the order sent. Cookies of one name differ in path or domain; browsers send the
/// longer path first (RFC 6265 §5.4).
pub fn cookies<'a, 'n>(
    headers: &'a HeaderMap,
    name: &'n str,
) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    cookies_in(headers.get_all(COOKIE).iter(), name)
}

/// The first cookie of that name in these values of the field.
pub fn cookie_in<'a>(lines: impl Iterator<Item = &'a HeaderValue>, name: &str) -> Option<&'a [u8]> {
    cookies_in(lines, name).next()
}

fn cookies_in<'a>(
    lines: impl Iterator<Item = &'a HeaderValue>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(|found| found.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(found))
}
