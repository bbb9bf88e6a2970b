//! A look at a request's first line before the parser sees it.
//!
//! Pingora's parser mends a target with blanks or control bytes in it: it escapes them and goes on. A fragment, which no
//! target has (RFC 9110 §7.1), it cuts off. RFC 9112 §3.2 wants such a line refused, for another hop may mend it otherwise.

/// How a first line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Three words.
    Plain,
    /// Blanks, control bytes or a fragment where none belong.
    Odd,
}

/// What was seen of the line so far, in however many reads it comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstLine {
    blanks: u8,
    odd: bool,
    begun: bool,
    done: bool,
}

impl FirstLine {
    /// Looks at the next bytes of a head.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        if self.done {
            return;
        }
        // RFC 9112 §2.2: empty lines before the first one are skipped.
        let skip =
            if self.begun { 0 } else { bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count() };
        let bytes = &bytes[skip..];
        self.begun |= !bytes.is_empty();
        let end = bytes.iter().position(|byte| *byte == b'\n');
        self.done = end.is_some();
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for byte in line {
            match byte {
                b' ' => self.blanks = self.blanks.saturating_add(1),
                // A method may have one (RFC 9110 §5.6.2).
                b'#' => self.odd |= self.blanks > 0,
                byte => self.odd |= byte.is_ascii_control(),
            }
        }
    }

    /// How the line looked; one that was not seen is plain.
    pub(super) fn verdict(&self) -> Line {
        if self.begun && (self.odd || self.blanks != 2) { Line::Odd } else { Line::Plain }
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
        line.verdict()
    }

    #[test]
    fn three_words_are_plain_however_they_come() {
        assert_eq!(verdict(&["GET /a HTTP/1.1\r\nHost: a b c\r\n"]), Line::Plain);
        assert_eq!(verdict(&["\r\n", "GE", "T /a HT", "TP/1.1\r\nA: b"]), Line::Plain);
        assert_eq!(verdict(&["GET /a", "#b HTTP/1.1\r\n"]), Line::Odd);
        assert_eq!(verdict(&["M#T /a HTTP/1.1\r\n#"]), Line::Plain);
        assert_eq!(verdict(&[]), Line::Plain);
    }

    #[test]
    fn blanks_and_control_bytes_in_a_target_are_odd() {
        for line in [
            "GET /a b HTTP/1.1\r\n",
            "GET  /a HTTP/1.1\r\n",
            "GET /a\tb HTTP/1.1\r\n",
            "GET /\x01 HTTP/1.1\n",
            "GET /a#b HTTP/1.1\r\n",
            "GET #b HTTP/1.1\r\n",
        ] {
            assert_eq!(verdict(&[line]), Line::Odd, "{line:?}");
        }
    }
}
