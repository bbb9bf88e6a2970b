//! Reading the Cookie field.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The first cookie of that name (RFC 6265 §4.2), without the quotes that it may stand in.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    cookie_in(headers.get_all(COOKIE).iter(), name)
}

/// The same in these values of the field.
pub fn cookie_in<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>, name: &str) -> Option<&'a [u8]> {
    let found = lines.find_map(|line| {
        line.as_bytes()
            .split(|byte| *byte == b';')
            .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    })?;
    Some(found.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(found))
}
