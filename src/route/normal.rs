//! The one spelling of a path and of a query. Nothing is allocated when a text already has it.

use super::query::hex;
use super::{BadTarget, PathRules};
use crate::spec::EscapedSlashes;
use std::borrow::Cow;

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// Stands for itself.
    Plain,
    Slash,
    Percent,
    Backslash,
    /// May not stand in a path as it is; RFC 3986 wants it encoded.
    Encode,
    /// Refused: spaces, control bytes, `#`, `?`.
    Bad,
}

static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Encode; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'\\' => Class::Backslash,
            0..=b' ' | 0x7f | b'#' | b'?' => Class::Bad,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => Class::Encode,
            _ => Class::Plain,
        };
        byte += 1;
    }
    table
}

/// What to do with the next bytes.
enum Step {
    /// These many stay.
    Keep(usize),
    /// A second slash goes.
    Drop,
    /// An escape of three bytes becomes this one.
    Decode(u8),
    /// These many become the escape of this byte.
    Encode(usize, u8),
}

/// The path in its one spelling.
pub(super) fn path(raw: &[u8], rules: PathRules) -> Result<Cow<'_, str>, BadTarget> {
    if is_ordinary(raw) {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| BadTarget::Byte);
    }
    let mut at = 0;
    while at < raw.len() {
        match step(raw, at, rules)? {
            Step::Keep(count) => at += count,
            Step::Drop | Step::Decode(_) | Step::Encode(..) => {
                return Ok(Cow::Owned(without_dots(rewrite(raw, at, rules)?)?));
            }
        }
    }
    // Every byte that is kept is ASCII.
    let text = std::str::from_utf8(raw).map_err(|_| BadTarget::Byte)?;
    without_dots(text).map(Cow::Borrowed)
}

/// Whether there is nothing to look at twice: plain bytes and single slashes that no dot follows. Most
/// paths are like this, and the loop has no branch to mispredict.
fn is_ordinary(raw: &[u8]) -> bool {
    let mut odd = false;
    let mut after_slash = false;
    for byte in raw {
        let slash = *byte == b'/';
        let plain = CLASSES[*byte as usize] == Class::Plain;
        odd |= !(plain | slash) | (after_slash & (slash | (*byte == b'.')));
        after_slash = slash;
    }
    !odd
}

/// The path from its first byte that changes.
fn rewrite(raw: &[u8], mut at: usize, rules: PathRules) -> Result<String, BadTarget> {
    let mut out = Vec::with_capacity(raw.len() + 16);
    out.extend_from_slice(&raw[..at]);
    while at < raw.len() {
        match step(raw, at, rules)? {
            Step::Keep(count) => {
                out.extend_from_slice(&raw[at..at + count]);
                at += count;
            }
            Step::Drop => at += 1,
            Step::Decode(byte) => {
                out.push(byte);
                at += 3;
            }
            Step::Encode(count, byte) => {
                escape(&mut out, byte);
                at += count;
            }
        }
    }
    String::from_utf8(out).map_err(|_| BadTarget::Byte)
}

#[inline]
fn step(raw: &[u8], at: usize, rules: PathRules) -> Result<Step, BadTarget> {
    let byte = raw[at];
    match CLASSES[byte as usize] {
        Class::Plain => Ok(Step::Keep(1)),
        Class::Slash if rules.merge_slashes && at > 0 && raw[at - 1] == b'/' => Ok(Step::Drop),
        Class::Slash => Ok(Step::Keep(1)),
        Class::Percent => step_escape(&raw[at..], rules),
        Class::Backslash if rules.escaped_slashes == EscapedSlashes::Reject => Err(BadTarget::EscapedSlash),
        Class::Backslash | Class::Encode => Ok(Step::Encode(1, byte)),
        Class::Bad => Err(BadTarget::Byte),
    }
}

fn step_escape(raw: &[u8], rules: PathRules) -> Result<Step, BadTarget> {
    let [_, first, second, ..] = *raw else { return Err(BadTarget::Escape) };
    let (Some(high), Some(low)) = (hex(first), hex(second)) else { return Err(BadTarget::Escape) };
    match high << 4 | low {
        0 => Err(BadTarget::Escape),
        b'/' | b'\\' if rules.escaped_slashes == EscapedSlashes::Reject => Err(BadTarget::EscapedSlash),
        byte @ (b'-' | b'.' | b'_' | b'~') => Ok(Step::Decode(byte)),
        byte if byte.is_ascii_alphanumeric() => Ok(Step::Decode(byte)),
        byte if first.is_ascii_lowercase() || second.is_ascii_lowercase() => Ok(Step::Encode(3, byte)),
        _ => Ok(Step::Keep(3)),
    }
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// The path, when none of its segments is `.` or `..`.
fn without_dots<T: AsRef<str>>(path: T) -> Result<T, BadTarget> {
    let text = path.as_ref().as_bytes();
    let found = text
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'.' && starts_segment(&text[..at]) && is_dots(&text[at..]));
    if found { Err(BadTarget::DotSegment) } else { Ok(path) }
}

/// Whether a segment starts behind these bytes. Escapes of slashes are there when they are kept.
fn starts_segment(before: &[u8]) -> bool {
    before.ends_with(b"/") || before.ends_with(b"%2F") || before.ends_with(b"%5C")
}

/// Whether a segment that starts here is `.` or `..`, perhaps with parameters (`..;x`), which
/// servlet containers cut off before they resolve the path.
fn is_dots(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b"..").unwrap_or(&segment[1..]);
    let ends: [&[u8]; 5] = [b"/", b";", b"%2F", b"%5C", b"%3B"];
    rest.is_empty() || ends.iter().any(|end| rest.starts_with(end))
}

/// The query with its `?`, or nothing: bytes beyond ASCII are encoded, all else is as it came.
pub(super) fn query(raw: &[u8]) -> Result<Cow<'_, str>, BadTarget> {
    // Without an early exit this is one pass of vector instructions.
    if raw.iter().fold(false, |bad, byte| bad | (*byte <= b' ') | (*byte == 0x7f) | (*byte == b'#')) {
        return Err(BadTarget::Byte);
    }
    if raw.is_ascii() {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| BadTarget::Byte);
    }
    let mut out = Vec::with_capacity(raw.len() + 16);
    for byte in raw {
        if byte.is_ascii() { out.push(*byte) } else { escape(&mut out, *byte) }
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| BadTarget::Byte)
}
