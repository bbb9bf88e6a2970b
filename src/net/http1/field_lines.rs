//! Field lines of a header: in the order and the spelling in which they were received, and as usual programs write them
//! where HTTP/1.1 did not bring them. Names are case-insensitive (RFC 9110 §5.1), but old clients and small servers
//! compare bytes.

use super::field_names::{FieldNames, Spelled};
use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue};

/// A field of the gateway itself, in place of the received ones of its name.
#[derive(Clone, Copy, Debug)]
pub struct OwnField<'a> {
    /// The name in lower case.
    pub name: &'a str,
    /// The value.
    pub value: &'a [u8],
}

/// Writes fields. Those that were received keep their place, wherever a header map has put them, and others follow.
pub fn write_fields<'f, I>(out: &mut BytesMut, names: &FieldNames, fields: impl Fn() -> I)
where
    I: Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
{
    write_from(out, names, None, fields);
}

/// Writes fields as [`write_fields`], and one more in the place and the spelling of the first received one of its name,
/// which is not among the fields. It is the last one if none was received.
pub fn write_fields_and<'f, I>(
    out: &mut BytesMut,
    names: &FieldNames,
    own: OwnField<'_>,
    fields: impl Fn() -> I,
) where
    I: Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
{
    let place = names.first(own.name.as_bytes()).map(|(position, spelled)| (position, spelled, own.value));
    write_from(out, names, place, fields);
    if place.is_none() {
        out.reserve(own.name.len() + own.value.len() + 4);
        put_name(out, own.name);
        put_value(out, own.value);
    }
}

/// A field's position, name and value.
type Placed<'a> = (usize, &'a [u8], &'a [u8]);

fn write_from<'f, I>(out: &mut BytesMut, names: &FieldNames, own: Option<Placed<'_>>, fields: impl Fn() -> I)
where
    I: Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
{
    let start = out.len();
    let (mut next, mut reached) = (0, 0);
    let mut last = None;
    let mut left = own;
    for (name, value) in fields() {
        // Those of one name are beside each other.
        next = if last.replace(name) == Some(name) { next } else { 0 };
        let spelled = names.line(name.as_str().as_bytes(), value.as_bytes(), &mut next);
        let place = if spelled == Spelled::Unknown { usize::MAX } else { next };
        if place < reached {
            // Repeated names are beside each other in a map, and a removal moves its last field.
            out.truncate(start);
            return write_in_order(out, names, own, fields());
        }
        if let Some((position, spelled, value)) = left.take_if(|(position, ..)| *position < place) {
            put_spelled(out, spelled, value);
            reached = position + 1;
        }
        if place != usize::MAX {
            reached = place;
        }
        put(out, spelled, name, value);
    }
    if let Some((_, spelled, value)) = left {
        put_spelled(out, spelled, value);
    }
}

#[cold]
fn write_in_order<'f>(
    out: &mut BytesMut,
    names: &FieldNames,
    own: Option<Placed<'_>>,
    fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>,
) {
    let (mut next, mut last) = (0, None);
    let mut are_taken = vec![false; names.count() + 1];
    let mut lines: Vec<_> = fields
        .map(|(name, value)| {
            next = if last.replace(name) == Some(name) { next } else { 0 };
            let spelled = names.line(name.as_str().as_bytes(), value.as_bytes(), &mut next);
            // A field that was added beside received ones of its name has no place of its own.
            let is_placed = spelled != Spelled::Unknown && !std::mem::replace(&mut are_taken[next], true);
            (if is_placed { next } else { usize::MAX }, spelled, name, value)
        })
        .collect();
    lines.sort_by_key(|(place, ..)| *place);
    let mut left = own;
    for (place, spelled, name, value) in lines {
        if let Some((_, spelled, value)) = left.take_if(|(position, ..)| *position < place) {
            put_spelled(out, spelled, value);
        }
        put(out, spelled, name, value);
    }
    if let Some((_, spelled, value)) = left {
        put_spelled(out, spelled, value);
    }
}

#[inline]
fn put(out: &mut BytesMut, spelled: Spelled<'_>, name: &HeaderName, value: &HeaderValue) {
    match spelled {
        Spelled::Line(line) => out.extend_from_slice(line),
        Spelled::Name(name) => put_spelled(out, name, value.as_bytes()),
        Spelled::Unknown => put_field(out, name, value),
    }
}

fn put_spelled(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    put_value(out, value);
}

/// Writes a field that was not received, or not in HTTP/1.1.
pub fn put_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.reserve(name.as_str().len() + value.len() + 4);
    put_name(out, name.as_str());
    put_value(out, value.as_bytes());
}

fn put_value(out: &mut BytesMut, value: &[u8]) {
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Names that usual programs write in lower case (W3C Trace Context, Baggage, B3).
const LOWER: [&str; 4] = ["traceparent", "tracestate", "baggage", "b3"];

/// Parts of names that are not written with one capital letter.
const WORDS: [(&str, &str); 21] = [
    ("csp", "CSP"),
    ("ct", "CT"),
    ("dns", "DNS"),
    ("dnt", "DNT"),
    ("etag", "ETag"),
    ("gpc", "GPC"),
    ("http2", "HTTP2"),
    ("id", "ID"),
    ("ip", "IP"),
    ("md5", "MD5"),
    ("nel", "NEL"),
    ("p3p", "P3P"),
    ("sourcemap", "SourceMap"),
    ("ssl", "SSL"),
    ("te", "TE"),
    ("tls", "TLS"),
    ("ua", "UA"),
    ("uri", "URI"),
    ("websocket", "WebSocket"),
    ("www", "WWW"),
    ("xss", "XSS"),
];

/// Writes a lower-case name as usual programs do: `Sec-WebSocket-Key`, `ETag`, `X-Request-ID`.
fn put_name(out: &mut BytesMut, name: &str) {
    if LOWER.contains(&name) {
        return out.put_slice(name.as_bytes());
    }
    for (index, word) in name.split('-').enumerate() {
        if index > 0 {
            out.put_u8(b'-');
        }
        match WORDS.binary_search_by_key(&word, |(lower, _)| lower) {
            Ok(at) => out.put_slice(WORDS[at].1.as_bytes()),
            Err(_) => {
                let start = out.len();
                out.put_slice(word.as_bytes());
                if let Some(first) = out[start..].first_mut() {
                    first.make_ascii_uppercase();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn written(names: &FieldNames, map: &HeaderMap) -> String {
        let mut out = BytesMut::new();
        write_fields(&mut out, names, || map.iter());
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// The names and the map of these lines, as a parser makes them.
    fn received(lines: &str) -> (FieldNames, HeaderMap) {
        let head = Bytes::copy_from_slice(lines.as_bytes());
        let text = std::str::from_utf8(&head).unwrap();
        let (mut names, mut map) = (FieldNames::new(&head, 0), HeaderMap::new());
        for line in text.split_terminator("\r\n") {
            let (name, value) = line.split_once(": ").unwrap();
            names.push(name);
            let value = HeaderValue::from_maybe_shared(head.slice_ref(value.as_bytes())).unwrap();
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        (names, map)
    }

    #[test]
    fn names_that_were_not_received_are_written_as_usual() {
        assert!(WORDS.is_sorted());
        for name in [
            "Host",
            "Connection",
            "Upgrade",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Accept",
            "X-Forwarded-For",
            "X-Real-IP",
            "X-Request-ID",
            "ETag",
            "WWW-Authenticate",
            "TE",
            "Content-MD5",
            "X-UA-Compatible",
            "X-XSS-Protection",
            "traceparent",
            "X--A-",
        ] {
            let map =
                HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("v"))]);
            assert_eq!(written(&FieldNames::default(), &map), format!("{name}: v\r\n"));
        }
    }

    #[test]
    fn a_changed_value_keeps_its_place_and_an_added_field_is_last() {
        let (names, mut map) = received("hOST: a\r\nuPGRADE: x\r\nX-a: 1\r\nconnection: y\r\nX-A: 2\r\n");
        map.insert("upgrade", HeaderValue::from_static("websocket"));
        map.append("x-forwarded-for", HeaderValue::from_static("::1"));
        let changed =
            "hOST: a\r\nuPGRADE: websocket\r\nX-a: 1\r\nconnection: y\r\nX-A: 2\r\nX-Forwarded-For: ::1\r\n";
        assert_eq!(written(&names, &map), changed);
        // A removal moves the last field of a map.
        map.remove("host");
        assert_eq!(written(&names, &map), changed.replace("hOST: a\r\n", ""));
        map.insert("host", HeaderValue::from_static("b"));
        assert_eq!(written(&names, &map), changed.replace("hOST: a", "hOST: b"));
    }

    #[test]
    fn a_field_that_is_added_beside_received_ones_of_its_name_is_last() {
        let (names, mut map) = received("Set-cookie: a\r\nX-A: 1\r\nset-Cookie: b\r\nX-B: 2\r\n");
        map.append("set-cookie", HeaderValue::from_static("c"));
        let lines = written(&names, &map);
        let start = "Set-cookie: a\r\nX-A: 1\r\nset-Cookie: b\r\nX-B: 2\r\n";
        assert!(lines.starts_with(start) && lines.len() > start.len(), "{lines}");
    }

    #[test]
    fn a_field_of_the_gateway_has_the_place_of_the_received_one() {
        let own = OwnField { name: "connection", value: b"close" };
        let with_own = |names: &FieldNames, map: &HeaderMap| {
            let mut out = BytesMut::new();
            write_fields_and(&mut out, names, own, || map.iter());
            String::from_utf8(out.to_vec()).unwrap()
        };
        for (lines, expected) in [
            ("X-A: 1\r\ncONNECTION: a\r\nX-B: 2\r\n", "X-A: 1\r\ncONNECTION: close\r\nX-B: 2\r\n"),
            ("cONNECTION: a\r\nX-B: 2\r\n", "cONNECTION: close\r\nX-B: 2\r\n"),
            ("X-B: 2\r\ncONNECTION: a\r\n", "X-B: 2\r\ncONNECTION: close\r\n"),
            ("X-B: 2\r\n", "X-B: 2\r\nConnection: close\r\n"),
            // The map has another order.
            (
                "X-A: 1\r\nX-B: 2\r\nCONNECTION: a\r\nx-A: 3\r\nConnection: b\r\nX-C: 4\r\n",
                "X-A: 1\r\nX-B: 2\r\nCONNECTION: close\r\nx-A: 3\r\nX-C: 4\r\n",
            ),
        ] {
            let (names, mut map) = received(lines);
            map.remove("connection");
            assert_eq!(with_own(&names, &map), expected);
            map.insert("x-own", HeaderValue::from_static("5"));
            let added = if names.first(b"connection").is_some() {
                format!("{expected}X-Own: 5\r\n")
            } else {
                expected.replace("Connection", "X-Own: 5\r\nConnection")
            };
            assert_eq!(with_own(&names, &map), added);
        }
        assert_eq!(with_own(&FieldNames::default(), &HeaderMap::new()), "Connection: close\r\n");
    }

    proptest! {
        #[test]
        fn fields_come_out_as_they_came(
            lines in prop::collection::vec(("[xXyY]-[aAbB]{1,2}", "[0-9]{0,3}"), 0..20),
            many in any::<bool>(),
            removed in "[xy]-[ab]{1,2}",
        ) {
            let lines: Vec<_> = std::iter::repeat_n(lines, if many { 10 } else { 1 }).flatten().collect();
            let text: String =
                lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let (names, mut map) = received(&text);
            prop_assert_eq!(&written(&names, &map), &text);
            map.remove(&*removed);
            let rest: String = text
                .split_inclusive("\r\n")
                .filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{removed}:")))
                .collect();
            prop_assert_eq!(written(&names, &map), rest);
        }
    }
}
