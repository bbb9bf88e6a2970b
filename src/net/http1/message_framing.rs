//! HTTP/1 message framing: the end of a request, determined independently of Pingora's parser to detect
//! request smuggling (RFC 9112 §6.3).
//!
//! A request with a different result is refused, and a connection without a common boundary is closed. Only
//! framing fields, the end of a body, and the framing of chunked bodies are parsed. Sans-io.
//! `request_validation` decides which fields are allowed.

use super::chunked_body::{Body, Chunks};
use http::{HeaderMap, header};
use memchr::memchr;

/// The bytes kept of an incomplete field line: enough for a framing field without padding. A longer framing
/// field is not parsed, and so refused.
const KEPT: usize = 128;

/// The parse state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseState {
    /// No byte has arrived.
    Idle,
    /// In the header.
    Head,
    /// In the body.
    Body,
    /// The request is complete; further bytes belong to the next one.
    Over,
    /// The framing of the body is invalid.
    Broken,
}

/// The comparison with Pingora's parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Both agree.
    Plain,
    /// The header is ambiguous.
    Doubtful,
}

/// The framing parser of one request.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    part: Part,
    /// Bytes of the header so far.
    head: usize,
    /// Whether the first line is complete.
    named: bool,
    framing: Framing,
    /// The start of an incomplete line.
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

/// The framing of a body according to the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Framing {
    /// Whether there is a transfer coding; request validation refuses any but `chunked`.
    coded: bool,
    /// The length, if there is a valid one.
    length: Option<u64>,
}

impl Boundary {
    /// The parse state of the request.
    pub(crate) fn stage(&self) -> ParseState {
        match self.part {
            Part::Head if self.head == 0 => ParseState::Idle,
            Part::Head => ParseState::Head,
            Part::Length(_) | Part::Chunked(_) => ParseState::Body,
            Part::Over => ParseState::Over,
            Part::Broken => ParseState::Broken,
        }
    }

    /// The bytes of the header so far.
    pub(crate) fn head(&self) -> usize {
        self.head
    }

    /// Parses bytes up to the end of the request, of the header before a chunked body, or of a chunk. Returns their
    /// number; later bytes are for the next call, or unusable after an error.
    ///
    /// One chunk at a time, because the gateway must not read a chunk that the backend must not receive (see
    /// `upload_gate`).
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if let Part::Head = self.part {
            at = self.follow_head(bytes);
            self.head += at;
            if let Part::Chunked(chunks) = self.part {
                // A request whose framing is invalid here is refused before it reaches a backend.
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

    /// Compares the framing with the fields that Pingora parsed.
    pub(crate) fn compare(&self, headers: &HeaderMap) -> Reading {
        let coded = headers.contains_key(header::TRANSFER_ENCODING);
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| length(value.as_bytes()));
        // A length beside a coding has no meaning, and Pingora drops it.
        let same_body = coded == self.framing.coded && (coded || said == self.framing.length);
        let whole = !matches!(self.part, Part::Head | Part::Broken);
        if whole && same_body { Reading::Plain } else { Reading::Doubtful }
    }

    /// Parses lines of the header. Returns the number of bytes that belong to it.
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

    /// Parses a line without its LF. Returns whether it is the empty line at the end of the header.
    fn take_line(&mut self, line: &[u8]) -> bool {
        if matches!(line, b"" | b"\r") {
            return true;
        }
        if !std::mem::replace(&mut self.named, true) {
            return false;
        }
        // The first letter excludes most lines.
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

/// The value of a length; `None` for anything but digits (RFC 9112 §6.2).
fn length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Keeps the relevant part of a line, and one more byte to detect a longer one.
fn keep(kept: &mut Vec<u8>, line: &[u8]) {
    let room = (KEPT + 1).saturating_sub(kept.len()).min(line.len());
    kept.extend_from_slice(&line[..room]);
}

#[cfg(test)]
mod tests;
