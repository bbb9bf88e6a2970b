//! X-Forwarded-* fields: values from trusted proxies, and values for plugins and backends.
//!
//! Each proxy appends to a list or overwrites it, so the last of several values was written by the nearest
//! proxy. That one is used, here and for the backend, which gets one line: a reader of the first of two lines
//! would otherwise trust the client's value.

use super::forwarded::{self, Hops};
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client's scheme by trusted proxies; `None` if it is unknown. Some proxies send WebSocket schemes, and
/// some append: `https,http` is a client with TLS before a second proxy without it.
pub(in crate::proxy) fn scheme(headers: &HeaderMap, hops: Hops) -> Option<&'static str> {
    let fields = headers.get_all(&PROTO).iter().filter_map(|value| value.to_str().ok());
    let named = fields.flat_map(|list| list.split(',')).map(str::trim).filter(|scheme| !scheme.is_empty());
    let mut schemes: Vec<_> = named.map(Cow::Borrowed).collect();
    if schemes.is_empty() {
        schemes.extend(forwarded::parameters(headers, "proto").into_iter().map(Cow::Owned));
    }
    let scheme = schemes.get(hops.element(schemes.len()))?;
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("https") || is("wss") {
        Some("https")
    } else if is("http") || is("ws") {
        Some("http")
    } else {
        None
    }
}

/// The host that the nearest proxy received.
pub(in crate::proxy) fn host(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let host = match nearest(headers, &HOST) {
        Some(value) => Cow::Borrowed(std::str::from_utf8(value).ok()?),
        None => Cow::Owned(forwarded::nearest_parameter(headers, "host")?),
    };
    Some(host).filter(|host| !host.is_empty())
}

/// What the nearest proxy wrote.
pub(super) fn nearest<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let last = headers.get_all(name).iter().next_back()?.as_bytes();
    last.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}
