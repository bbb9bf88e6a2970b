//! End of a request header in a growing buffer: the empty line after the first line (RFC 9112 §2.1). Sans-io.

use memchr::memchr;

/// A search that continues where the last one ended.
#[derive(Debug, Default)]
pub struct HeadEnd {
    /// Bytes that contain no end and need not be searched again.
    searched: usize,
}

impl HeadEnd {
    /// The size of the header at the start of `buffer`, which has the bytes of earlier calls and more. Line
    /// ends without CR count, so that a header with them has an end at which it can be rejected.
    pub fn find(&mut self, buffer: &[u8]) -> Option<usize> {
        // RFC 9112 §2.2: empty lines before the first line are skipped.
        let mut at = if self.searched == 0 { line_ends(buffer) } else { self.searched };
        while let Some(found) = memchr(b'\n', &buffer[at..]) {
            let line_end = at + found;
            match buffer[line_end + 1..] {
                [b'\n', ..] => return Some(line_end + 2),
                [b'\r', b'\n', ..] => return Some(line_end + 3),
                [] | [b'\r'] => {
                    self.searched = line_end;
                    return None;
                }
                _ => at = line_end + 1,
            }
        }
        // Empty lines alone are searched again: the first line may follow.
        self.searched = if at == line_ends(buffer) { 0 } else { buffer.len() };
        None
    }
}

/// The size of the empty lines at the start, each of which ends with CRLF or LF.
pub fn empty_lines(bytes: &[u8]) -> usize {
    let mut size = 0;
    loop {
        size += match &bytes[size..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => return size,
        };
    }
}

/// The number of CR and LF at the start.
pub fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn find(bytes: &[u8], piece: usize) -> Option<usize> {
        let mut head_end = HeadEnd::default();
        (1..=bytes.len().div_ceil(piece))
            .find_map(|pieces| head_end.find(&bytes[..bytes.len().min(pieces * piece)]))
    }

    #[test]
    fn an_empty_line_is_complete() {
        for (bytes, size) in [("\r\n\n\r\nG", 5), ("\r", 0), ("\r\r\n", 0), ("\n\rG", 1), ("", 0), ("G", 0)] {
            assert_eq!(empty_lines(bytes.as_bytes()), size, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_ends_with_its_first_empty_line() {
        for (head, rest) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "body\r\n\r\n"),
            ("\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", "GET /x"),
            ("GET / HTTP/1.1\nHost: a\n\n", "\n"),
            ("GET / HTTP/1.1\nHost: a\r\n\n", "GET /x"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "GET /x"),
        ] {
            let wire = format!("{head}{rest}");
            for piece in 1..=wire.len() {
                assert_eq!(find(wire.as_bytes(), piece), Some(head.len()), "{wire:?} by {piece}");
            }
        }
        for head in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r",
            "\r\n\rGET / HTTP/1.1\r",
        ] {
            assert_eq!(find(head.as_bytes(), 1), None, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_is_where_httparse_finds_it(
            lines in prop::collection::vec("[a-zA-Z-]{1,8}:[ -~]{0,12}\r?", 0..8),
            suffix in prop::collection::vec(any::<u8>(), 0..40),
            piece in 1..50usize,
        ) {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut wire = format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
            let size = wire.len();
            wire.extend_from_slice(&suffix);
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Request::new(&mut fields).parse(&wire).unwrap();
            prop_assert_eq!(parsed, httparse::Status::Complete(size));
            prop_assert_eq!(find(&wire, piece), Some(size));
        }

        #[test]
        fn any_split_gives_the_same_end(wire in "[a\r\n]{0,24}", piece in 1..5usize) {
            prop_assert_eq!(find(wire.as_bytes(), piece), find(wire.as_bytes(), wire.len().max(1)));
        }
    }
}
