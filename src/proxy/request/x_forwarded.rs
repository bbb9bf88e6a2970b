//! X-Forwarded-* fields: what a trusted proxy says in them.
//!
//! Each proxy appends to a list or overwrites it, so of several values the last one was written by the nearest proxy.
//! That one counts, here and for the backend, which gets one line: a reader that takes the first of two lines would
//! otherwise believe what the client wrote.

use super::forwarded::{self, Hops};
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The scheme that trusted proxies name for the client; nothing when it is none that is known. Some proxies name those
/// of WebSockets, and some append to the list: `https,http` is a client with TLS before a second proxy without.
pub(in crate::proxy) fn scheme(headers: &HeaderMap, hops: Hops) -> Option<&'static str> {
    let fields = headers.get_all(&PROTO).iter().filter_map(|value| value.to_str().ok());
    let named = fields.flat_map(|list| list.split(',')).map(str::trim).filter(|scheme| !scheme.is_empty());
    let mut said: Vec<_> = named.map(Cow::Borrowed).collect();
    if said.is_empty() {
        said.extend(forwarded::parameters(headers, "proto").into_iter().map(Cow::Owned));
    }
    let said = said.get(hops.element(said.len()))?;
    let is = |known: &str| said.eq_ignore_ascii_case(known);
    if is("https") || is("wss") {
        Some("https")
    } else if is("http") || is("ws") {
        Some("http")
    } else {
        None
    }
}

/// The host that the nearest proxy was asked for.
pub(in crate::proxy) fn host(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let said = match nearest(headers, &HOST) {
        Some(said) => Cow::Borrowed(std::str::from_utf8(said).ok()?),
        None => Cow::Owned(forwarded::nearest_parameter(headers, "host")?),
    };
    Some(said).filter(|host| !host.is_empty())
}

/// What the nearest proxy wrote.
pub(super) fn nearest<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let last = headers.get_all(name).iter().next_back()?.as_bytes();
    last.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}
