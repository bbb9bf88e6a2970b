//! Received spelling of a header's field names. Names are case-insensitive (RFC 9110 §5.1), and are forwarded as
//! they were received.

use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::OnceLock;

/// The number of names up to which they are searched one by one.
const MAX_SCANNED: usize = 64;

/// The names of a header's fields, in their order.
#[derive(Clone, Debug, Default)]
pub struct FieldNames {
    head: Bytes,
    names: Vec<Name>,
    /// The positions by name, and those of one name in their order. Made by the first search among many names, which
    /// would cost quadratic time otherwise.
    by_name: OnceLock<Box<[u32]>>,
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
        Self { head: head.clone(), names: Vec::with_capacity(fields), by_name: OnceLock::new() }
    }

    /// Adds a name, which is a part of the header. One beyond 4 GiB is not kept.
    pub fn push(&mut self, name: &str) {
        let at = name.as_ptr().addr().checked_sub(self.head.as_ptr().addr());
        let at = at.and_then(|at| u32::try_from(at).ok());
        if let (Some(at), Ok(length)) = (at, u32::try_from(name.len())) {
            self.names.push(Name { at, length });
        }
    }

    /// The number of fields.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The received spelling of a name; `None` if no such field was received. Of several, it is the first one from the
    /// position `next`, which is after the previous result, and otherwise the first one.
    #[must_use]
    pub fn spelled(&self, name: &[u8], next: &mut usize) -> Option<&[u8]> {
        let position = self.position_from(name, *next)?;
        *next = position + 1;
        self.names.get(position).and_then(|range| self.bytes(range))
    }

    /// The position of the first field of this name, and its spelling.
    #[must_use]
    pub fn first(&self, name: &[u8]) -> Option<(usize, &[u8])> {
        let position = self.position_from(name, 0)?;
        Some((position, self.bytes(self.names.get(position)?)?))
    }

    fn position_from(&self, name: &[u8], next: usize) -> Option<usize> {
        if self.names.len() > MAX_SCANNED {
            return self.indexed_position_from(name, next);
        }
        let (before, after) = self.names.split_at_checked(next).unwrap_or((&self.names, &[]));
        let found = after.iter().chain(before).position(|range| self.is(range, name))?;
        Some(if found < after.len() { next + found } else { found - after.len() })
    }

    fn indexed_position_from(&self, name: &[u8], next: usize) -> Option<usize> {
        let compared = |position: u32, name: &[u8]| {
            let range = self.names.get(position as usize);
            compare(range.and_then(|range| self.bytes(range)).unwrap_or_default(), name)
        };
        let by_name = self.by_name.get_or_init(|| {
            // Fewer than the bytes of the header, whose positions fit.
            let mut positions: Box<[u32]> = (0..self.names.len() as u32).collect();
            let bytes = |position: u32| {
                self.names.get(position as usize).and_then(|range| self.bytes(range)).unwrap_or_default()
            };
            // Stable, so that those of one name keep their order.
            positions.sort_by(|one, other| compare(bytes(*one), bytes(*other)));
            positions
        });
        let start = by_name.partition_point(|position| compared(*position, name) == Ordering::Less);
        let rest = &by_name[start..];
        let same = &rest[..rest.partition_point(|position| compared(*position, name) == Ordering::Equal)];
        let at = same.partition_point(|position| (*position as usize) < next);
        same.get(at).or(same.first()).map(|position| *position as usize)
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

/// Compares names without regard to case.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
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
    fn every_one_of_many_names_is_found() {
        for count in [MAX_SCANNED, MAX_SCANNED + 1, 2000] {
            let text: String = (0..count).map(|number| format!("X-{}: \r\n", number % 700)).collect();
            let head = Bytes::from(text.clone());
            let text = std::str::from_utf8(&head).unwrap_or_default();
            let mut names = FieldNames::new(&head, count);
            text.lines().for_each(|line| names.push(&line[..line.len() - 2]));
            let mut next = 0;
            for number in 0..count {
                let name = format!("x-{}", number % 700);
                assert_eq!(names.spelled(name.as_bytes(), &mut next), Some(name.to_uppercase().as_bytes()));
                assert_eq!(next, number + 1);
            }
            // The first one follows the last one.
            assert!(names.spelled(b"x-3", &mut next).is_some());
            assert_eq!((next, names.first(b"x-3").map(|(position, _)| position)), (4, Some(3)));
            assert_eq!(names.spelled(b"y", &mut next), None);
        }
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
