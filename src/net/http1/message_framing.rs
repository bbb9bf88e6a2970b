//! Where one request ends and the next begins on a client's connection (RFC 9112 §6.3), found beside
//! Pingora's own reading and compared with it: a request that the two read differently is refused,
//! and a connection on which they lost each other is closed.
//!
//! Of a head only what frames it is looked at; of a body only its end, and of a chunked one the
//! framing. Sans-io. Whether the fields are allowed at all is `admission`'s to say.

use super::chunked_body::{Body, Chunks};
use http::{HeaderMap, header};
use memchr::memchr;

/// Of a field line that comes in pieces, so much is kept until its end: enough for any framing field
/// without padding. One with more is not read, and so refused.
const KEPT: usize = 128;

/// How far a request has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseState {
    /// Nothing of it is here.
    Idle,
    /// In its head.
    Head,
    /// In its body.
    Body,
    /// All of it is here; what comes is the next one's.
    Over,
    /// Its body breaks the framing's rules.
    Broken,
}

/// How a head looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As the parser read it.
    Plain,
    /// It can be read otherwise.
    Doubtful,
}

/// Follows one request.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    part: Part,
    /// Bytes of the head so far.
    head: usize,
    /// The first line is over.
    named: bool,
    framing: Framing,
    /// The beginning of a line whose end has not come yet.
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunks),
    Over,
    Broken,
}

/// What a head says of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Framing {
    /// It names a transfer coding; any other than `chunked` is refused by those who read the fields.
    coded: bool,
    /// Its length, if it has one that can be read.
    length: Option<u64>,
}

impl Boundary {
    /// How far the request has been read.
    pub(crate) fn stage(&self) -> ParseState {
        match self.part {
            Part::Head if self.head == 0 => ParseState::Idle,
            Part::Head => ParseState::Head,
            Part::Length(_) | Part::Chunked(_) => ParseState::Body,
            Part::Over => ParseState::Over,
            Part::Broken => ParseState::Broken,
        }
    }

    /// The bytes of its head so far.
    pub(crate) fn head(&self) -> usize {
        self.head
    }

    /// Follows the next bytes to the end of the request, of the head before a chunked body, or of a chunk. Returns how
    /// many bytes that is; what follows is for the next call, or, when the request is broken, nobody's.
    ///
    /// A reader that gets one chunk at a time has read none that the backend must not get any more (see `upload_gate`).
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if let Part::Head = self.part {
            at = self.follow_head(bytes);
            self.head += at;
            if let Part::Chunked(chunks) = self.part {
                // A request of which so much is broken already is refused before a backend is asked.
                if chunks.breaks_in(&bytes[at..]) {
                    self.part = Part::Broken;
                }
                return at;
            }
        }
        let rest = &bytes[at..];
        match &mut self.part {
            Part::Head | Part::Over | Part::Broken => at,
            Part::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= n as u64;
                if *left == 0 {
                    self.part = Part::Over;
                }
                at + n
            }
            Part::Chunked(chunks) => {
                let (n, body) = chunks.follow(rest);
                match body {
                    Body::Open => {}
                    Body::Over => self.part = Part::Over,
                    Body::Broken => self.part = Part::Broken,
                }
                at + n
            }
        }
    }

    /// Compares with the fields as Pingora read them.
    pub(crate) fn compare(&self, headers: &HeaderMap) -> Reading {
        let coded = headers.contains_key(header::TRANSFER_ENCODING);
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| length(value.as_bytes()));
        // Beside a coding a length means nothing, and Pingora drops it.
        let same_body = coded == self.framing.coded && (coded || said == self.framing.length);
        let whole = !matches!(self.part, Part::Head | Part::Broken);
        if whole && same_body { Reading::Plain } else { Reading::Doubtful }
    }

    /// Looks at the lines of a head. Returns how many bytes are the head's.
    fn follow_head(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        // RFC 9112 §2.2: empty lines before the first one are skipped.
        if !self.named && self.kept.is_empty() {
            at = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        }
        while let Some(found) = memchr(b'\n', &bytes[at..]) {
            let line = &bytes[at..at + found];
            at += found + 1;
            let is_last = if self.kept.is_empty() {
                self.take_line(line)
            } else {
                let mut whole = std::mem::take(&mut self.kept);
                keep(&mut whole, line);
                self.take_line(&whole)
            };
            if is_last {
                self.part = match self.framing {
                    Framing { coded: true, .. } => Part::Chunked(Chunks::default()),
                    Framing { length: Some(length @ 1..), .. } => Part::Length(length),
                    _ => Part::Over,
                };
                return at;
            }
        }
        keep(&mut self.kept, &bytes[at..]);
        bytes.len()
    }

    /// Takes a line without its LF. Returns whether it is the empty one at a head's end.
    fn take_line(&mut self, line: &[u8]) -> bool {
        if matches!(line, b"" | b"\r") {
            return true;
        }
        if !std::mem::replace(&mut self.named, true) {
            return false;
        }
        // Most lines are told by their first letter.
        if matches!(line[0], b'C' | b'c' | b'T' | b't')
            && let Some(colon) = memchr(b':', line)
        {
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                self.framing.coded = true;
            } else if name.eq_ignore_ascii_case(b"content-length") && line.len() <= KEPT {
                self.framing.length = length(value);
            }
        }
        false
    }
}

/// A length's value; anything but digits is none (RFC 9112 §6.2).
fn length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Keeps so much of a line as may matter, and one byte more to know that it was longer.
fn keep(kept: &mut Vec<u8>, line: &[u8]) {
    let room = (KEPT + 1).saturating_sub(kept.len()).min(line.len());
    kept.extend_from_slice(&line[..room]);
}

#[cfg(test)]
mod tests;
