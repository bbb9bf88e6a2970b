//! Trailer section of a message (RFC 9110 §6.5): its fields as received, without those that a trailer must not have.

use super::field_lines::write_fields;
use super::field_names::FieldNames;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use moongate_sdk::is_same_spelling;

/// Fields that a recipient needs before the body, or that concern one connection (RFC 9110 §6.5.1, §7.6.1): framing,
/// routing, request modifiers, authentication, response controls and content format.
const FORBIDDEN: [&str; 43] = [
    "age",
    "authorization",
    "cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-request-id",
];

/// The fields of a trailer section, and their names as received.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    fields: HeaderMap,
    names: FieldNames,
}

impl Trailers {
    /// Parses a section without its last, empty line. `None` if it has no field that may be forwarded, or a line that is
    /// no field: what belongs together in it is unknown then.
    #[must_use]
    pub fn parse(section: &Bytes) -> Option<Self> {
        let text = section.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let (mut fields, mut names) = (HeaderMap::new(), FieldNames::new(section, 1));
        for line in text {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = memchr::memchr(b':', line)?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            let value = section.slice_ref(line[colon + 1..].trim_ascii());
            names.push(name);
            let (name, value) =
                (HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_maybe_shared(value).ok()?);
            fields.try_append(name, value).ok()?;
        }
        Self { fields, names }.allowed()
    }

    /// Fields of HTTP/2. `None` if none may be forwarded.
    #[must_use]
    pub fn from_fields(fields: HeaderMap) -> Option<Self> {
        Self { fields, names: FieldNames::default() }.allowed()
    }

    fn allowed(self) -> Option<Self> {
        self.without(|name| FORBIDDEN.iter().any(|forbidden| is_same_spelling(forbidden, name.as_str())))
    }

    /// Without these fields. `None` if no other is left.
    #[must_use]
    pub fn without(mut self, is_removed: impl Fn(&HeaderName) -> bool) -> Option<Self> {
        if self.fields.keys().any(&is_removed) {
            // A removal would change the order of the others.
            let left = self.fields.iter().filter(|(name, _)| !is_removed(name));
            let mut fields = HeaderMap::new();
            for (name, value) in left {
                fields.append(name, value.clone());
            }
            self.fields = fields;
        }
        (!self.fields.is_empty()).then_some(self)
    }

    /// The fields.
    #[must_use]
    pub fn into_fields(self) -> HeaderMap {
        self.fields
    }

    /// Writes the fields in the order and the spelling in which they were received.
    pub fn write(&self, out: &mut BytesMut) {
        write_fields(out, &self.names, || self.fields.iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(section: &'static str) -> Option<String> {
        let mut out = BytesMut::new();
        Trailers::parse(&Bytes::from_static(section.as_bytes()))?.write(&mut out);
        String::from_utf8(out.to_vec()).ok()
    }

    #[test]
    fn fields_are_written_as_they_were_received() {
        assert!(FORBIDDEN.iter().all(|name| name.bytes().all(|byte| !byte.is_ascii_uppercase())));
        let section = "X-sUM: 1\r\nserver-TIMING: a\r\nx-Sum: 2\r\n";
        assert_eq!(written(section).as_deref(), Some(section));
        assert_eq!(written("X-A:  \t1 \r\nX-b:\r\n").as_deref(), Some("X-A: 1\r\nX-b: \r\n"));
    }

    #[test]
    fn what_a_trailer_must_not_have_is_left_out() {
        assert_eq!(
            written(
                "Content-Length: 5\r\nX-A: 1\r\nAUTHORIZATION: x\r\nX-B: 2\r\ntransfer_encoding: chunked\r\n"
            )
            .as_deref(),
            Some("X-A: 1\r\nX-B: 2\r\n")
        );
        assert_eq!(written("Host: a\r\n"), None);
        assert_eq!(written(""), None);
    }

    #[test]
    fn a_section_with_a_line_that_is_no_field_is_left_out() {
        for line in ["x", "X-B : 1", " folded", ": 1", "X B: 1", "\u{fc}: 1"] {
            assert_eq!(
                Trailers::parse(&Bytes::from(format!("X-A: 1\r\n{line}\r\nX-C: 3\r\n"))).map(|_| line),
                None
            );
        }
    }

    #[test]
    fn fields_of_http_2_are_written_as_usual_programs_do() {
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", HeaderValue::from_static("0"));
        fields.insert("etag", HeaderValue::from_static("x"));
        fields.insert("te", HeaderValue::from_static("trailers"));
        let mut out = BytesMut::new();
        if let Some(trailers) = Trailers::from_fields(fields) {
            trailers.write(&mut out);
        }
        assert_eq!(out, "Grpc-Status: 0\r\nETag: x\r\n");
    }
}
