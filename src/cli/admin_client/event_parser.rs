//! Server-Sent Events parser (WHATWG HTML §9.2.6), independent of I/O. Identifiers and retry times are skipped.

use std::collections::VecDeque;

/// The largest event in bytes, far above the status of thousands of endpoints.
const LARGEST: usize = 64 << 20;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct StreamEvent {
    /// Its type; `message` if the stream has none.
    pub(in crate::cli) name: String,
    /// Its data lines, joined by line feeds.
    pub(in crate::cli) data: String,
}

/// An event is larger than the parser accepts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventTooLarge;

/// The state between two pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    /// The bytes of an incomplete line.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_return: bool,
    name: String,
    data: Option<String>,
    complete: VecDeque<StreamEvent>,
}

impl EventParser {
    /// Reads a piece of the stream.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), EventTooLarge> {
        if piece.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_return) {
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', piece) {
            self.line.extend_from_slice(&piece[..end]);
            self.end_line();
            let is_return = piece[end] == b'\r';
            piece = &piece[end + 1..];
            match piece.first() {
                Some(b'\n') if is_return => piece = &piece[1..],
                None => self.after_return = is_return,
                Some(_) => {}
            }
        }
        self.line.extend_from_slice(piece);
        let size = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if size > LARGEST { Err(EventTooLarge) } else { Ok(()) }
    }

    /// The next complete event.
    pub(super) fn next(&mut self) -> Option<StreamEvent> {
        self.complete.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            self.end_event();
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment has an empty field name.
            _ => {}
        }
    }

    fn end_event(&mut self) {
        let name = std::mem::take(&mut self.name);
        let Some(data) = self.data.take() else { return };
        let name = if name.is_empty() { "message".to_owned() } else { name };
        self.complete.push_back(StreamEvent { name, data });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = EventParser::default();
        pieces.iter().for_each(|piece| parser.push(piece).unwrap());
        std::iter::from_fn(|| parser.next()).map(|event| (event.name, event.data)).collect()
    }

    const STREAM: &str = ": ping\n\nevent: a\ndata: 1\n\ndata:2\r\ndata: 3\r\n\r\nevent: c\rid: 7\rdata: é\r\rdata\n\nevent: d\n\ndata: rest";

    #[test]
    fn events_are_found_however_the_stream_is_split() {
        let pair = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        let expected = [pair("a", "1"), pair("message", "2\n3"), pair("c", "é"), pair("message", "")];
        let bytes = STREAM.as_bytes();
        assert_eq!(events(&[bytes]), expected);
        for at in 0..bytes.len() {
            assert_eq!(events(&[&bytes[..at], &bytes[at..]]), expected, "split at {at}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(events(&single), expected);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut parser = EventParser::default();
        let piece = vec![b'x'; LARGEST / 4 + 1];
        let outcomes: Vec<_> = (0..4).map(|_| parser.push(&piece)).collect();
        assert_eq!(outcomes.last(), Some(&Err(EventTooLarge)));
        assert_eq!(outcomes[2], Ok(()));
    }
}
