//! A look at a request's first line before the parser sees it.
//!
//! Pingora's parser mends a target with blanks or control bytes in it: it escapes them and goes on.
//! RFC 9112 §3.2 wants such a line refused, for another hop may mend it otherwise. A request that was
//! sent behind another in one packet is not seen here, or only its rest is; it gets the parser's
//! reading, the same for routing and forwarding.

/// How a first line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Three words.
    Plain,
    /// Blanks or control bytes where none belong.
    Odd,
}

/// Enough for any method that is served, and the blank behind it.
const START: usize = 33;

/// What was seen of the line so far, in however many reads it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstLine {
    blanks: u8,
    odd: bool,
    done: bool,
    /// How it begins, to know whether it was seen from its beginning.
    start: [u8; START],
    kept: u8,
}

impl Default for FirstLine {
    fn default() -> Self {
        Self { blanks: 0, odd: false, done: false, start: [0; START], kept: 0 }
    }
}

impl FirstLine {
    /// Looks at the next bytes of a head.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        if self.done {
            return;
        }
        // RFC 9112 §2.2: empty lines before the first one are skipped.
        let skip =
            if self.kept > 0 { 0 } else { bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count() };
        let bytes = &bytes[skip..];
        let room = START - usize::from(self.kept);
        let more = &bytes[..bytes.len().min(room)];
        self.start[usize::from(self.kept)..][..more.len()].copy_from_slice(more);
        self.kept += more.len() as u8;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        self.done = end.is_some();
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let blanks = line.iter().filter(|byte| **byte == b' ').count();
        self.blanks = self.blanks.saturating_add(u8::try_from(blanks).unwrap_or(u8::MAX));
        self.odd |= line.iter().any(|byte| *byte < b' ' || *byte == 0x7f);
    }

    /// How the line of a request with this method looked; one that was not seen whole is plain.
    pub(super) fn verdict(&self, method: &str) -> Line {
        let seen = &self.start[..usize::from(self.kept)];
        let whole = seen.strip_prefix(method.as_bytes()).is_some_and(|rest| rest.first() == Some(&b' '));
        if whole && (self.odd || self.blanks != 2) { Line::Odd } else { Line::Plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(parts: &[&str]) -> Line {
        let mut line = FirstLine::default();
        for part in parts {
            line.see(part.as_bytes());
        }
        line.verdict("GET")
    }

    #[test]
    fn three_words_are_plain_however_they_come() {
        assert_eq!(verdict(&["GET /a HTTP/1.1\r\nHost: a b c\r\n"]), Line::Plain);
        assert_eq!(verdict(&["\r\n", "GE", "T /a HT", "TP/1.1\r\nA: b"]), Line::Plain);
        assert_eq!(verdict(&[]), Line::Plain);
    }

    #[test]
    fn the_rest_of_a_line_whose_beginning_came_with_another_request_is_plain() {
        assert_eq!(verdict(&["T /a HTTP/1.1\r\n"]), Line::Plain);
        assert_eq!(verdict(&["/a HTTP/1.1\r\n"]), Line::Plain);
        assert_eq!(verdict(&["1.1\r\nHost: a b c\r\n"]), Line::Plain);
    }

    #[test]
    fn blanks_and_control_bytes_in_a_target_are_odd() {
        for line in [
            "GET /a b HTTP/1.1\r\n",
            "GET  /a HTTP/1.1\r\n",
            "GET /a\tb HTTP/1.1\r\n",
            "GET /\x01 HTTP/1.1\n",
        ] {
            assert_eq!(verdict(&[line]), Line::Odd, "{line:?}");
        }
    }
}
