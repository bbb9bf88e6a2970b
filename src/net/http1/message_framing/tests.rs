#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use http::{HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

/// Feeds the bytes in pieces of that size. Returns the bytes of the request, and the boundary.
fn follow(bytes: &[u8], piece: usize) -> (usize, Boundary) {
    let mut boundary = Boundary::default();
    let mut sum = 0;
    for part in bytes.chunks(piece) {
        let mut at = 0;
        while at < part.len() {
            let n = boundary.follow(&part[at..]);
            at += n;
            if n == 0 || matches!(boundary.stage(), ParseState::Over | ParseState::Broken) {
                return (sum + at, boundary);
            }
        }
        sum += at;
    }
    (sum, boundary)
}

/// The fields from the parser, and the header's size.
fn parsed(bytes: &[u8]) -> (usize, HeaderMap) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut fields);
    let size = request.parse(bytes).unwrap().unwrap();
    let fields = request.headers.iter().map(|field| {
        (HeaderName::try_from(field.name).unwrap(), HeaderValue::from_bytes(field.value).unwrap())
    });
    (size, fields.collect())
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\n";

#[test]
fn a_request_ends_with_its_body_and_the_next_one_follows() {
    for (fields, body) in [
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("content-LENGTH:5\r\n", "hello"),
        ("Content-Length: \t 5 \r\nX: y\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding:Chunked\r\n", "0\r\nX: y\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
        ("Content-Language: 5\r\nX-Content-Length: 5\r\nContent-Length-X: 5\r\n", ""),
    ] {
        let head = format!("{GET}{fields}\r\n");
        let request = format!("{head}{body}");
        let wire = format!("{request}GET /next HTTP/1.1\r\n\r\n");
        let (size, headers) = parsed(wire.as_bytes());
        assert_eq!(size, head.len());
        for piece in 1..=wire.len() {
            let (n, boundary) = follow(wire.as_bytes(), piece);
            assert_eq!((n, boundary.stage()), (request.len(), ParseState::Over), "{fields:?} by {piece}");
            assert_eq!(boundary.compare(&headers), Reading::Plain, "{fields:?} by {piece}");
        }
    }
}

#[test]
fn bare_line_feeds_and_empty_lines_before_are_read_as_the_parser_reads_them() {
    for wire in [
        "GET / HTTP/1.1\nHost: a\n\nGET /x",
        "GET / HTTP/1.1\r\nHost: a\n\r\nGET /x",
        "GET / HTTP/1.1\nHost: a\r\n\nGET /x",
        "\r\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x",
        "GET / HTTP/1.1\r\n\r\nGET /x",
    ] {
        let (size, headers) = parsed(wire.as_bytes());
        for piece in 1..=wire.len() {
            let (n, boundary) = follow(wire.as_bytes(), piece);
            assert_eq!((n, boundary.head()), (size, size), "{wire:?} by {piece}");
            assert_eq!(boundary.compare(&headers), Reading::Plain, "{wire:?} by {piece}");
        }
    }
}

#[test]
fn an_ambiguous_header_is_doubtful() {
    let padded = format!("Content-Length: {}5\r\n", "0".repeat(200));
    let doubt = |wire: &str, seen: &str| {
        let (_, headers) = parsed(seen.as_bytes());
        follow(wire.as_bytes(), 7).1.compare(&headers)
    };
    let with = |fields: &str| format!("{GET}{fields}\r\n");
    for (wire, seen) in [
        (with("Content-Length: 5\r\n"), with("Content-Length: 6\r\n")),
        (with("Content-Length: 5\r\n"), with("X-ontent-Length: 5\r\n")),
        (with("Transfer-Encoding: chunked\r\n"), with("X-ransfer-Encoding: chunked\r\n")),
        (with("X-ransfer-Encoding: chunked\r\n"), with("Transfer-Encoding: chunked\r\n")),
        (with(&padded), with(&padded)),
    ] {
        assert_eq!(doubt(&wire, &seen), Reading::Doubtful, "{wire:?} and {seen:?}");
    }
    let coded = with("Transfer-Encoding: chunked\r\n");
    let broken = format!("{coded}x");
    let (n, boundary) = follow(broken.as_bytes(), 1000);
    let (size, headers) = parsed(coded.as_bytes());
    assert_eq!((n, boundary.stage()), (size, ParseState::Broken));
    assert_eq!(boundary.compare(&headers), Reading::Doubtful);
    assert_eq!(doubt(&coded, &coded), Reading::Plain);
}

proptest! {
    /// The parser and the boundary find the same end of a header.
    #[test]
    fn the_parser_and_the_boundary_agree(
        lines in vec("(content-length: [0-9]{1,3}|Transfer-Encoding: chunked|[a-zA-Z-]{1,8}:[ -~]{0,12})\r?", 0..8),
        suffix in vec(any::<u8>(), 0..40),
        piece in 1..50usize,
    ) {
        let mut wire = format!("GET / HTTP/1.1\r\n{}\r\n", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        let head = wire.len();
        wire.push_str(&String::from_utf8_lossy(&suffix));
        let (size, headers) = parsed(wire.as_bytes());
        prop_assert_eq!(size, head);
        let (n, boundary) = follow(wire.as_bytes(), piece);
        prop_assert!(n >= head && boundary.head() == head);
        // Two lengths are refused by request validation; here the first and the last may differ.
        if headers.get_all(header::CONTENT_LENGTH).iter().count() < 2 && boundary.stage() != ParseState::Broken {
            prop_assert_eq!(boundary.compare(&headers), Reading::Plain);
        }
    }

    #[test]
    fn any_bytes_end_at_the_same_place_for_any_split(
        wire in "(GET / HTTP/1.1\r?\n)?((content-length: [0-9]|transfer-encoding: x|[a-c:\r ]{0,3})\r?\n){0,5}[0-3\r\n;]{0,20}",
    ) {
        let (whole, boundary) = follow(wire.as_bytes(), wire.len().max(1));
        for piece in 1..wire.len() {
            let (n, other) = follow(wire.as_bytes(), piece);
            prop_assert_eq!(other.stage(), boundary.stage(), "by {}", piece);
            // A body whose framing breaks in the bytes after the header is refused before its first byte.
            prop_assert!(n == whole || boundary.stage() == ParseState::Broken, "by {}", piece);
        }
    }
}
