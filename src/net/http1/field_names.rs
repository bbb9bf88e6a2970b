//! Received spelling of a header's field names. Names are case-insensitive (RFC 9110 §5.1), and are forwarded as
//! they were received.

use bytes::Bytes;

/// The names of a header's fields, in their order.
#[derive(Clone, Debug, Default)]
pub struct FieldNames {
    head: Bytes,
    names: Vec<Name>,
}

/// A range of the header.
#[derive(Clone, Copy, Debug)]
struct Name {
    at: u32,
    length: u32,
}

impl FieldNames {
    /// Prepares for the names of `fields` fields in `head`.
    #[must_use]
    pub fn new(head: &Bytes, fields: usize) -> Self {
        Self { head: head.clone(), names: Vec::with_capacity(fields) }
    }

    /// Adds a name, which is a part of the header. One beyond 4 GiB is not kept.
    pub fn push(&mut self, name: &str) {
        let at = name.as_ptr().addr().checked_sub(self.head.as_ptr().addr());
        let at = at.and_then(|at| u32::try_from(at).ok());
        if let (Some(at), Ok(length)) = (at, u32::try_from(name.len())) {
            self.names.push(Name { at, length });
        }
    }

    /// The received spelling of a name; `None` if no such field was received near the position `next`, which is
    /// after the previous result.
    #[must_use]
    pub fn spelled(&self, name: &[u8], next: &mut usize) -> Option<&[u8]> {
        let (before, after) = self.names.split_at_checked(*next).unwrap_or_default();
        // Fields of one name are grouped in a header map, so that a search may start anywhere. Without a limit, a header
        // with many repeated names would cost quadratic time.
        let near = after.iter().chain(before).take(MAX_SEARCHED);
        let found = near.enumerate().find(|(_, range)| self.is(range, name))?.0;
        let position = if found < after.len() { *next + found } else { found - after.len() };
        *next = position + 1;
        self.names.get(position).and_then(|range| self.bytes(range))
    }

    /// The received form of a field.
    #[must_use]
    pub fn line(&self, name: &[u8], value: &[u8], next: &mut usize) -> Spelled<'_> {
        let Some(position) = self.position_of(name, value) else {
            return self.spelled(name, next).map_or(Spelled::Unknown, Spelled::Name);
        };
        *next = position + 1;
        let Some(range) = self.names.get(position) else { return Spelled::Unknown };
        let (start, length) = (range.at as usize, range.length as usize);
        let end = start + length + SEPARATOR.len() + value.len() + LINE_END.len();
        let line = self.head.get(start..end).filter(|line| {
            value.as_ptr() == line[length + SEPARATOR.len()..].as_ptr()
                && line[length..].starts_with(SEPARATOR)
                && line.ends_with(LINE_END)
        });
        match (line, self.bytes(range)) {
            (Some(line), _) => Spelled::Line(line),
            (None, Some(name)) => Spelled::Name(name),
            (None, None) => Spelled::Unknown,
        }
    }

    /// The position of the field whose received value this is, if it has that name.
    fn position_of(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let at = value.as_ptr().addr().checked_sub(self.head.as_ptr().addr())?;
        if value.is_empty() || at >= self.head.len() {
            return None;
        }
        let after = self.names.partition_point(|range| (range.at as usize) < at);
        let position = after.checked_sub(1)?;
        self.names.get(position).filter(|range| self.is(range, name)).map(|_| position)
    }

    fn bytes(&self, range: &Name) -> Option<&[u8]> {
        self.head.get(range.at as usize..)?.get(..range.length as usize)
    }

    fn is(&self, range: &Name, name: &[u8]) -> bool {
        range.length as usize == name.len()
            && self.bytes(range).is_some_and(|received| received.eq_ignore_ascii_case(name))
    }
}

/// How many names are compared in a search.
const MAX_SEARCHED: usize = 64;

/// What is between a name and its value, and after the value, in a line that may be copied.
const SEPARATOR: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

/// The received form of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelled<'a> {
    /// No such field was received.
    Unknown,
    /// The name; the value differs from the received one.
    Name(&'a [u8]),
    /// The whole line.
    Line(&'a [u8]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_order() {
        let head = Bytes::from_static(b"hOST: a\r\nX-a: 1\r\nX-A: 2\r\nDNT: 1\r\n");
        let mut names = FieldNames::new(&head, 4);
        let text = std::str::from_utf8(&head).unwrap_or_default();
        for name in ["hOST", "X-a", "X-A", "DNT"] {
            names.push(&text[text.find(name).unwrap_or_default()..][..name.len()]);
        }
        let mut next = 0;
        for (name, spelled) in [
            ("host", Some("hOST")),
            ("x-a", Some("X-a")),
            ("x-a", Some("X-A")),
            ("x-b", None),
            ("dnt", Some("DNT")),
            ("x-a", Some("X-a")),
            ("Host", Some("hOST")),
        ] {
            assert_eq!(names.spelled(name.as_bytes(), &mut next), spelled.map(str::as_bytes), "{name}");
        }
        assert_eq!(FieldNames::default().spelled(b"host", &mut 0), None);
    }

    #[test]
    fn a_line_is_copied_only_with_its_own_value() {
        let head = Bytes::from_static(b"X-A: same\r\nX-B:  same\r\nX-C:\r\nX-D: same\n");
        let mut names = FieldNames::new(&head, 4);
        let text = std::str::from_utf8(&head).unwrap_or_default();
        [0, 11, 23, 29].iter().for_each(|at| names.push(&text[*at..at + 3]));
        let line = |name: &str, value: &[u8]| names.line(name.as_bytes(), value, &mut 0);
        assert_eq!(line("x-a", &head[5..9]), Spelled::Line(b"X-A: same\r\n"));
        assert_eq!(line("x-a", b"same"), Spelled::Name(b"X-A"), "another value");
        assert_eq!(line("x-a", &head[17..21]), Spelled::Name(b"X-A"), "the value of another field");
        assert_eq!(line("x-b", &head[17..21]), Spelled::Name(b"X-B"), "two spaces");
        assert_eq!(line("x-c", b""), Spelled::Name(b"X-C"), "no space");
        assert_eq!(line("x-d", &head[34..38]), Spelled::Name(b"X-D"), "no CR");
        assert_eq!(line("x-e", b""), Spelled::Unknown);
    }

    #[test]
    fn fields_of_one_name_have_their_own_lines() {
        let head = Bytes::from_static(b"X-A: 1\r\nX-B: 1\r\nx-a: 2\r\nx-b: 2\r\n");
        let mut names = FieldNames::new(&head, 4);
        let text = std::str::from_utf8(&head).unwrap_or_default();
        [0, 8, 16, 24].iter().for_each(|at| names.push(&text[*at..at + 3]));
        let mut next = 0;
        // In the order of a header map.
        for (name, at, line) in
            [("x-a", 5, "X-A: 1"), ("x-a", 21, "x-a: 2"), ("x-b", 13, "X-B: 1"), ("x-b", 29, "x-b: 2")]
        {
            let line = format!("{line}\r\n");
            assert_eq!(
                names.line(name.as_bytes(), &head[at..=at], &mut next),
                Spelled::Line(line.as_bytes())
            );
        }
    }
}
