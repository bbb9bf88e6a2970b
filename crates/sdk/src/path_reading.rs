//! Path normalization: the form in which rules see a path. Spellings that two servers could read differently have
//! one form here, or none. A path in that form needs no allocation.
//!
//! - Encoded unreserved characters are decoded (RFC 3986 §6.2.2.2), other escapes have upper-case digits, and
//!   characters not allowed in a path (`"`, `<`, `|`, bytes beyond ASCII …) are encoded.
//! - `%2F`, `%5C` and `\` are slashes, and several slashes are one.
//! - `.` and `..` segments have no reading in any spelling (`%2e`, `..;x`, `..%2F`, a last `/..`): a client resolves
//!   them before it sends a path (RFC 3986 §5.2.4).
//! - Control bytes, spaces, `%00`, `#`, `?` and escapes without two hexadecimal digits have no reading either.

use percent_encoding::percent_encode_byte;
use std::borrow::Cow;

/// The reason why a path has no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// A space, a control byte, `#` or `?`.
    Byte,
    /// A `%` without two hexadecimal digits, or `%00`.
    Escape,
    /// `.` or `..` in any spelling.
    DotSegment,
}

/// A path in its normalized reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathReading<'a> {
    /// The path for rules.
    pub path: Cow<'a, str>,
    /// Whether it was sent with `%2F`, `%5C` or `\`.
    pub has_escaped_slash: bool,
}

/// The class of a byte in a path.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// Kept as it is.
    Plain,
    Slash,
    Percent,
    Backslash,
    /// Not allowed in a path unencoded (RFC 3986).
    Encode,
    /// Rejected: spaces, control bytes, `#`, `?`.
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

/// The reading of the next bytes of a path.
#[derive(Clone, Copy)]
enum Step {
    /// This many bytes are kept.
    Keep(usize),
    /// This many bytes are a slash.
    Slash(usize),
    /// Three bytes are an escape of this one.
    Decode(u8),
    /// This many bytes are written as the escape of this byte.
    Encode(usize, u8),
}

/// Reads a path in any spelling.
///
/// # Errors
/// [`BadPath`] if it has no reading.
pub fn read_path(raw: &[u8]) -> Result<PathReading<'_>, BadPath> {
    let borrowed = || std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| BadPath::Byte);
    if is_ordinary(raw) {
        return Ok(PathReading { path: borrowed()?, has_escaped_slash: false });
    }
    let mut at = 0;
    let mut after_slash = false;
    while at < raw.len() {
        match step(&raw[at..])? {
            Step::Keep(count) => {
                at += count;
                after_slash = false;
            }
            Step::Slash(1) if raw[at] == b'/' && !after_slash => {
                at += 1;
                after_slash = true;
            }
            Step::Slash(_) | Step::Decode(_) | Step::Encode(..) => {
                let (path, has_escaped_slash) = rewrite(raw, at)?;
                return Ok(PathReading { path: Cow::Owned(without_dots(path)?), has_escaped_slash });
            }
        }
    }
    // Every byte that is kept is ASCII.
    Ok(PathReading { path: without_dots(borrowed()?)?, has_escaped_slash: false })
}

/// Whether the parameters of path segments (`/a;x=1/b`) are part of the segments that a prefix is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentParameters {
    /// Ignored: `/a;x=1/b` begins with `/a`.
    Ignore,
    /// Part of the segment.
    Keep,
}

/// The rest of a path as sent, after a prefix of its widest reading; it begins with a slash, or is
/// empty. `None` when the path does not begin with these segments. Ignored parameters of the prefix's segments are taken
/// away with them.
#[must_use]
pub fn strip_path_prefix<'a>(
    raw: &'a str,
    prefix: &str,
    parameters: SegmentParameters,
) -> Option<Cow<'a, str>> {
    let bytes = raw.as_bytes();
    let mut wanted = prefix.trim_end_matches('/').as_bytes();
    let mut at = 0;
    let mut after_slash = false;
    loop {
        if parameters == SegmentParameters::Ignore {
            at += parameters_length(&bytes[at..]);
        }
        if wanted.is_empty() {
            return rest(&raw[at..]);
        }
        let step = step(bytes.get(at..).filter(|rest| !rest.is_empty())?).ok()?;
        let mut decoded = [0; 1];
        let (count, read): (usize, &[u8]) = match step {
            Step::Keep(count) => (count, &bytes[at..at + count]),
            Step::Slash(count) if after_slash => (count, b""),
            Step::Slash(count) => (count, b"/"),
            Step::Decode(byte) => {
                decoded[0] = byte;
                (3, &decoded)
            }
            Step::Encode(count, byte) => (count, percent_encode_byte(byte).as_bytes()),
        };
        wanted = wanted.strip_prefix(read)?;
        after_slash = matches!(step, Step::Slash(_));
        at += count;
    }
}

/// The length of the parameters that begin here: those up to the end of the segment, or 0.
fn parameters_length(bytes: &[u8]) -> usize {
    if !matches!(bytes, [b';', ..] | [b'%', b'3', b'b' | b'B', ..]) {
        return 0;
    }
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match step(rest) {
            Ok(Step::Slash(_)) | Err(_) => break,
            Ok(Step::Keep(count) | Step::Encode(count, _)) => at += count,
            Ok(Step::Decode(_)) => at += 3,
        }
    }
    at
}

/// The rest after a prefix of whole segments. Several slashes at its beginning become one.
fn rest(rest: &str) -> Option<Cow<'_, str>> {
    if rest.is_empty() || rest.starts_with('/') {
        return Some(Cow::Borrowed(rest));
    }
    match step(rest.as_bytes()) {
        Ok(Step::Slash(count)) => Some(Cow::Owned(format!("/{}", &rest[count..]))),
        _ => None,
    }
}

/// Whether the path is plain: ordinary bytes and single slashes without a dot after them. Most paths are plain, and
/// the loop has no branch to mispredict.
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

/// The path from its first changed byte, and whether one of its slashes was escaped.
fn rewrite(raw: &[u8], mut at: usize) -> Result<(String, bool), BadPath> {
    let mut out = Vec::with_capacity(raw.len() + 16);
    let mut has_escaped_slash = false;
    out.extend_from_slice(&raw[..at]);
    while at < raw.len() {
        at += match step(&raw[at..])? {
            Step::Keep(count) => {
                out.extend_from_slice(&raw[at..at + count]);
                count
            }
            Step::Slash(count) => {
                has_escaped_slash |= raw[at] != b'/';
                if out.last() != Some(&b'/') {
                    out.push(b'/');
                }
                count
            }
            Step::Decode(byte) => {
                out.push(byte);
                3
            }
            Step::Encode(count, byte) => {
                out.extend_from_slice(percent_encode_byte(byte).as_bytes());
                count
            }
        };
    }
    Ok((String::from_utf8(out).map_err(|_| BadPath::Byte)?, has_escaped_slash))
}

/// The reading of the beginning of `rest`, which is not empty.
#[inline]
fn step(rest: &[u8]) -> Result<Step, BadPath> {
    let byte = rest[0];
    match CLASSES[byte as usize] {
        Class::Plain => Ok(Step::Keep(1)),
        Class::Slash | Class::Backslash => Ok(Step::Slash(1)),
        Class::Percent => escape_step(rest),
        Class::Encode => Ok(Step::Encode(1, byte)),
        Class::Bad => Err(BadPath::Byte),
    }
}

// By hand, not with percent-encoding's decoder: one pass judges every byte and every escape and leaves a path
// that needs no change where it is; the decoder would decode slashes and take a broken escape for text.
fn escape_step(rest: &[u8]) -> Result<Step, BadPath> {
    let [_, first, second, ..] = *rest else { return Err(BadPath::Escape) };
    let (Some(high), Some(low)) = (hex(first), hex(second)) else { return Err(BadPath::Escape) };
    match high << 4 | low {
        0 => Err(BadPath::Escape),
        b'/' | b'\\' => Ok(Step::Slash(3)),
        byte @ (b'-' | b'.' | b'_' | b'~') => Ok(Step::Decode(byte)),
        byte if byte.is_ascii_alphanumeric() => Ok(Step::Decode(byte)),
        byte if first.is_ascii_lowercase() || second.is_ascii_lowercase() => Ok(Step::Encode(3, byte)),
        _ => Ok(Step::Keep(3)),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The path, when none of its segments is `.` or `..`.
fn without_dots<T: AsRef<str>>(path: T) -> Result<T, BadPath> {
    let text = path.as_ref().as_bytes();
    let found = text
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'.' && text[..at].ends_with(b"/") && is_dots(&text[at..]));
    if found { Err(BadPath::DotSegment) } else { Ok(path) }
}

/// Whether a segment that starts here is `.` or `..`, perhaps with parameters (`..;x`), which servlet containers
/// remove before they resolve the path.
fn is_dots(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b"..").unwrap_or(&segment[1..]);
    let ends: [&[u8]; 3] = [b"/", b";", b"%3B"];
    rest.is_empty() || ends.iter().any(|end| rest.starts_with(end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_a_slash_is_one() {
        for raw in
            ["/a/b", "//a///b", "/a%2Fb", "/a%2fb", "/a\\b", "/a%5Cb", "/a/%2F\\b", "\\a/b", "%2Fa%5c/b"]
        {
            assert_eq!(read_path(raw.as_bytes()).unwrap().path, "/a/b", "{raw}");
        }
        for (raw, escaped) in [("//a", false), ("/a%2Fb", true), ("/a\\", true), ("/a%252F", false)] {
            assert_eq!(read_path(raw.as_bytes()).unwrap().has_escaped_slash, escaped, "{raw}");
        }
    }

    #[test]
    fn a_dot_segment_has_no_reading() {
        for raw in ["/..%2fb", "/a%2F..", "/a%5c..%5cb", "/..\\a", "/a%2f%2e", "/a//..", "/a%2F..;x/b", "/./"]
        {
            assert_eq!(read_path(raw.as_bytes()), Err(BadPath::DotSegment), "{raw}");
        }
        for raw in ["/a..b", "/...", "/a/..b", "/%252e%252e/", "/.well-known"] {
            assert!(read_path(raw.as_bytes()).is_ok(), "{raw}");
        }
    }

    #[test]
    fn a_prefix_is_taken_from_every_spelling_and_the_rest_stays_as_sent() {
        for (raw, prefix, rest) in [
            ("/api/x", "/api", Some("/x")),
            ("/api", "/api", Some("")),
            ("/api/", "/api/", Some("/")),
            ("//api//x//y", "/api", Some("//x//y")),
            ("/a%2Fb/c%2fd", "/a/b", Some("/c%2fd")),
            ("/a/b%2Fc%2fd", "/a/b", Some("/c%2fd")),
            ("/%61pi\\x", "/api", Some("/x")),
            ("/caf%c3%a9/%c3", "/caf%C3%A9", Some("/%c3")),
            ("/apis", "/api", None),
            ("/ap", "/api", None),
            ("/api;v/x", "/api", None),
        ] {
            assert_eq!(
                strip_path_prefix(raw, prefix, SegmentParameters::Keep).as_deref(),
                rest,
                "{raw} {prefix}"
            );
        }
    }

    /// Texts that resemble paths, so that most runs pass the first check.
    fn paths() -> impl Strategy<Value = String> {
        let pieces =
            ["/", "%2F", "%5c", "\\", "a", "%61", "%c3", "ß", ";", "%3b", "%25", "|", ".", "%2e", "b"];
        let piece = proptest::sample::select(pieces.to_vec());
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    #[test]
    fn ignored_parameters_go_with_their_prefix() {
        for (raw, prefix, rest) in [
            ("/wiki;x/a", "/wiki", Some("/a")),
            ("/wiki;v=1", "/wiki", Some("")),
            ("/;x/wiki/a", "/wiki", Some("/a")),
            ("/wiki%3Bx/a;y/b", "/wiki", Some("/a;y/b")),
            ("/a;x=1/b;y/c", "/a/b", Some("/c")),
            ("/a;x%2Fb/c", "/a/b", Some("/c")),
            ("/wikis;x/a", "/wiki", None),
            ("/wi;ki/a", "/wiki", None),
        ] {
            let found = strip_path_prefix(raw, prefix, SegmentParameters::Ignore);
            assert_eq!(found.as_deref(), rest, "{raw} {prefix}");
            let kept = strip_path_prefix(raw, prefix, SegmentParameters::Keep);
            assert_eq!(kept, None, "{raw} {prefix}");
        }
    }

    proptest! {
        #[test]
        fn the_reading_is_final_and_safe(raw in paths()) {
            if let Ok(reading) = read_path(raw.as_bytes()) {
                let path = &*reading.path;
                prop_assert!(path.starts_with('/') && path.is_ascii() && !path.contains("//"));
                prop_assert!(!["%2F", "%5C", "\\"].iter().any(|slash| path.contains(slash)));
                prop_assert!(!path.split('/').any(|name| name == "." || name == ".."));
                let again = read_path(path.as_bytes()).unwrap();
                prop_assert!(matches!(again.path, Cow::Borrowed(again) if again == path));
            }
        }

        #[test]
        fn a_matching_prefix_is_stripped(raw in paths(), cut in 0..8usize) {
            if let Ok(reading) = read_path(raw.as_bytes()) {
                let ends: Vec<_> = reading.path.match_indices('/').map(|(at, _)| at).chain([reading.path.len()]).collect();
                let prefix = &reading.path[..ends[cut % ends.len()]];
                let rest = strip_path_prefix(&raw, prefix, SegmentParameters::Keep).unwrap();
                prop_assert!(rest.is_empty() || rest.starts_with('/') || prefix.is_empty());
                let rest = read_path(rest.as_bytes()).unwrap();
                prop_assert_eq!(rest.path.trim_start_matches('/'), reading.path[prefix.len()..].trim_start_matches('/'));
            }
        }

        #[test]
        fn no_bytes_panic(raw in any::<Vec<u8>>(), text in any::<String>(), prefix in any::<String>()) {
            let _ = (read_path(&raw), strip_path_prefix(&text, &prefix, SegmentParameters::Ignore));
        }
    }
}
