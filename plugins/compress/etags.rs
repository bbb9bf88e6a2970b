//! Entity tags of compressed responses (RFC 9110 §8.8.3), and their reverse mapping in conditional requests.
//!
//! The strong tag `"v1"` of a backend becomes `W/"v1"` with the compressed representation, and `"v1"` again in
//! `If-None-Match` and `If-Match`. If the backend sends weak tags of its own, `W/"v1"` may be its tag, so both
//! forms are sent: some servers compare the text. `If-Range` stays: a range refers to the uncompressed
//! representation, so a weak tag must not match.

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use moongate_sdk::Headers;

pub(super) fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/\"")
}

/// Another representation must not share a strong tag.
pub(super) fn weaken(headers: &mut Headers<'_>) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
    if let Some(Ok(weak)) = strong.map(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())) {
        headers.set(&ETAG, weak);
    }
}

/// Restores the weak tags of a request's conditions to strong ones, and with `keep_weak` keeps the weak ones too.
/// Returns the strong tags of `If-None-Match` that were weak.
pub(super) fn restore(headers: &mut Headers<'_>, keep_weak: bool) -> Vec<HeaderValue> {
    let mut restored = Vec::new();
    for name in [IF_NONE_MATCH, IF_MATCH] {
        let Some((value, tags)) = strong_again(headers, &name, keep_weak) else { continue };
        headers.set(&name, value);
        if name == IF_NONE_MATCH {
            restored = tags;
        }
    }
    restored
}

/// The condition for the backend, and its tags that were weak; `None` if nothing changes.
fn strong_again(
    headers: &HeaderMap,
    name: &http::HeaderName,
    keep_weak: bool,
) -> Option<(HeaderValue, Vec<HeaderValue>)> {
    let has_weak = |value: &HeaderValue| value.as_bytes().windows(3).any(|part| part == b"W/\"");
    if !headers.get_all(name).iter().any(has_weak) {
        return None;
    }
    let (mut all, mut restored) = (Vec::new(), Vec::new());
    for value in headers.get_all(name) {
        for tag in tags(value.as_bytes())? {
            match tag.strip_prefix(b"W/") {
                Some(strong) => {
                    restored.push(HeaderValue::from_bytes(strong).ok()?);
                    all.push(strong);
                    if keep_weak {
                        all.push(tag);
                    }
                }
                None => all.push(tag),
            }
        }
    }
    Some((HeaderValue::from_bytes(&all.join(&b", "[..])).ok()?, restored))
}

/// The tags of a list; `None` for a malformed one.
fn tags(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut tags = Vec::new();
    let mut rest = list.trim_ascii();
    while !rest.is_empty() {
        let start = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(start) != Some(&b'"') {
            return None;
        }
        // A tag may contain a comma, but no quote.
        let end = start + 2 + rest[start + 1..].iter().position(|byte| *byte == b'"')?;
        tags.push(&rest[..end]);
        rest = rest[end..].trim_ascii();
        match rest.split_first() {
            None => {}
            Some((b',', more)) => rest = more.trim_ascii(),
            Some(_) => return None,
        }
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn sent(name: &http::HeaderName, values: &[&str], keep_weak: bool) -> (String, usize) {
        let mut map = HeaderMap::new();
        values.iter().for_each(|value| {
            map.append(name, HeaderValue::from_str(value).unwrap());
        });
        let restored = restore(&mut Headers::request(&mut map), keep_weak).len();
        let all: Vec<_> = map.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        (all.join(" | "), restored)
    }

    #[test]
    fn weak_tags_go_back_strong() {
        for (values, there, count) in [
            (&["W/\"v1\""][..], "\"v1\"", 1),
            (&["\"a\", W/\"b,c\" ,W/\"\""], "\"a\", \"b,c\", \"\"", 2),
            (&["\"a\"", "W/\"b\""], "\"a\", \"b\"", 1),
            (&["*"], "*", 0),
            (&["\"a\", \"b\""], "\"a\", \"b\"", 0),
            (&["W/\"a\" \"b\""], "W/\"a\" \"b\"", 0),
            (&["W/\"a"], "W/\"a", 0),
        ] {
            assert_eq!(sent(&IF_NONE_MATCH, values, false), (there.to_owned(), count), "{values:?}");
            assert_eq!(sent(&IF_MATCH, values, false).0, there, "{values:?}");
        }
        assert_eq!(sent(&IF_NONE_MATCH, &["W/\"v1\""], true).0, "\"v1\", W/\"v1\"");
        assert_eq!(sent(&http::header::IF_RANGE, &["W/\"v1\""], false).0, "W/\"v1\"");
    }
}
