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

    /// The received spelling of a name; `None` if no such field was received. `next` is the position after
    /// the previous result, where the search begins.
    #[must_use]
    pub fn spelled(&self, name: &[u8], next: &mut usize) -> Option<&[u8]> {
        let (before, after) = self.names.split_at_checked(*next).unwrap_or_default();
        let found = after.iter().chain(before).position(|range| self.is(range, name))?;
        let position = if found < after.len() { *next + found } else { found - after.len() };
        *next = position + 1;
        self.names.get(position).and_then(|range| self.bytes(range))
    }

    /// The received line of a field, if its value is the received one and one space precedes it; otherwise
    /// [`FieldNames::spelled`].
    #[must_use]
    pub fn line(&self, name: &[u8], value: &[u8], next: &mut usize) -> Spelled<'_> {
        let Some(spelled) = self.spelled(name, next) else { return Spelled::Unknown };
        let start = spelled.as_ptr().addr() - self.head.as_ptr().addr();
        let value_start = start + spelled.len() + SEPARATOR.len();
        let line = self.head.get(start..value_start + value.len() + LINE_END.len()).filter(|line| {
            value.as_ptr().addr() == self.head.as_ptr().addr() + value_start
                && line[spelled.len()..].starts_with(SEPARATOR)
                && line.ends_with(LINE_END)
        });
        line.map_or(Spelled::Name(spelled), Spelled::Line)
    }

    fn bytes(&self, range: &Name) -> Option<&[u8]> {
        self.head.get(range.at as usize..)?.get(..range.length as usize)
    }

    fn is(&self, range: &Name, name: &[u8]) -> bool {
        range.length as usize == name.len()
            && self.bytes(range).is_some_and(|received| received.eq_ignore_ascii_case(name))
    }
}

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
}
