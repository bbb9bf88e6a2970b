//! Request targets: the form that rules match, and the bytes that a backend receives.
//!
//! - The target is a path (origin-form), an `http` or `https` URL (absolute-form, whose authority replaces the
//!   Host field), or `*` for OPTIONS (RFC 9112 §3.2). Other forms are refused.
//! - Rules match the path in its widest reading ([`moongate_sdk::read_path`]): spellings that servers may read
//!   differently become one form or are refused. Parameters of segments (`/a;x/b`) are removed, unless a rule
//!   keeps them.
//! - The backend receives path and query as sent. Plugins see them as ASCII: characters that are invalid in a
//!   URI are percent-encoded.
//! - Control bytes, spaces and a `#` are refused in path and query.

use super::bad_target::BadTarget;
use super::{Authority, authority};
use http::Method;
use moongate_sdk::{read_path, without_parameters};
use percent_encoding::{CONTROLS, percent_encode, percent_encode_byte};
use std::borrow::Cow;

/// The longest target that `http::Uri` supports.
const MAX_LENGTH: usize = u16::MAX as usize - 1;

/// A request's target. A usual target borrows and allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Path and query as forwarded, in ASCII.
    whole: Cow<'a, str>,
    path_len: usize,
    /// The path as sent, if it differs from the forwarded one.
    raw_path: Option<String>,
    /// The path in its widest reading, if it differs from the forwarded one.
    read: Option<String>,
    /// The same without the parameters of segments, if there are any.
    bare: Option<String>,
    has_escaped_slash: bool,
    authority: Option<Authority<'a>>,
    origin_form: bool,
}

/// The target in origin-form (RFC 9112 §3.2.1), as sent but for what `http::Uri` does not hold, which is
/// percent-encoded: `<`, `>` and a backquote in a path, `"`, `<` and `>` in a query. `None` when it has no such form.
pub fn origin_form<'a>(raw: &'a [u8], method: &[u8]) -> Option<Cow<'a, [u8]>> {
    if raw.first() == Some(&b'/') {
        return Some(carried(raw));
    }
    let is_options = method == b"OPTIONS";
    if raw == b"*" && is_options {
        return Some(Cow::Borrowed(raw));
    }
    let (_, rest) = authority::split(raw)?;
    Some(match rest.first() {
        // RFC 9112 §3.2.4: for the last proxy, such an OPTIONS means the server as a whole.
        None if is_options => Cow::Borrowed(b"*"),
        None => Cow::Borrowed(b"/"),
        Some(b'/') => carried(rest),
        Some(_) => Cow::Owned([b"/", &*carried(rest)].concat()),
    })
}

/// A path with repeated slashes merged.
pub fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for part in path.split_inclusive('/') {
        if !(part == "/" && merged.ends_with('/')) {
            merged.push_str(part);
        }
    }
    merged
}

/// Whether `http::Uri` supports a target in origin-form as it is.
pub fn is_carried(raw: &[u8]) -> bool {
    raw.len() <= MAX_LENGTH && matches!(carried(raw), Cow::Borrowed(_))
}

/// Path and query, with bytes that `http::Uri` does not support percent-encoded.
pub fn carried(raw: &[u8]) -> Cow<'_, [u8]> {
    encode(raw, |byte, in_query| match byte {
        b'<' | b'>' => true,
        b'`' => !in_query,
        b'"' => in_query,
        _ => false,
    })
}

/// Path and query in ASCII.
fn in_ascii(raw: &[u8]) -> Cow<'_, [u8]> {
    encode(raw, |byte, in_query| match byte {
        b'<' | b'>' | 0x80.. => true,
        b'`' => !in_query,
        b'"' => in_query,
        _ => false,
    })
}

fn encode(raw: &[u8], mut must: impl FnMut(u8, bool) -> bool) -> Cow<'_, [u8]> {
    let mut in_query = false;
    let mut must = |byte: u8| {
        in_query |= byte == b'?';
        must(byte, in_query)
    };
    let Some(first) = raw.iter().position(|byte| must(*byte)) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(raw.len() + 16);
    out.extend_from_slice(&raw[..first]);
    out.extend_from_slice(percent_encode_byte(raw[first]).as_bytes());
    for byte in &raw[first + 1..] {
        if must(*byte) {
            out.extend_from_slice(percent_encode_byte(*byte).as_bytes());
        } else {
            out.push(*byte);
        }
    }
    Cow::Owned(out)
}

impl<'a> Target<'a> {
    /// Parses a target with the value of the Host field, if present. The caller handles a missing Host, which
    /// HTTP/1.0 allows. An empty one means no host (RFC 9112 §3.2).
    ///
    /// # Errors
    /// [`BadTarget`]: the response is 400, or 414 for a target that is too long.
    pub fn parse(raw: &'a [u8], method: &Method, host: Option<&'a str>) -> Result<Self, BadTarget> {
        let named = host.filter(|host| !host.is_empty()).map(Authority::parse).transpose()?;
        if *method == Method::CONNECT {
            return Err(BadTarget::Form);
        }
        if raw.first() == Some(&b'/') {
            return Self::read(raw, named);
        }
        if raw == b"*" && *method == Method::OPTIONS {
            return Ok(Self { origin_form: true, ..Self::server_wide(named) });
        }
        let (authority, rest) = authority::split(raw).ok_or(BadTarget::Form)?;
        let authority = Some(Authority::parse(authority)?);
        let target = match rest.first() {
            // RFC 9112 §3.2.4: for the last proxy, such an OPTIONS means the server as a whole.
            None if *method == Method::OPTIONS => Self::server_wide(authority),
            None => Self::read(b"/", authority)?,
            Some(b'/') => Self::read(rest, authority)?,
            // RFC 9110 §4.2.3: the path of `http://host?query` is `/`.
            Some(_) => {
                let query = Self::query_text(rest)?;
                Self { whole: Cow::Owned(["/", &*query].concat()), ..Self::read(b"/", authority)? }
            }
        };
        Ok(Self { origin_form: false, ..target })
    }

    fn server_wide(authority: Option<Authority<'a>>) -> Self {
        Self {
            whole: "*".into(),
            path_len: 1,
            raw_path: None,
            read: None,
            bare: None,
            has_escaped_slash: false,
            authority,
            origin_form: false,
        }
    }

    fn read(raw: &'a [u8], authority: Option<Authority<'a>>) -> Result<Self, BadTarget> {
        if raw.len() > MAX_LENGTH {
            return Err(BadTarget::TooLong);
        }
        if let Some(path_len) = plain_path_length(raw)
            && let Ok(whole) = std::str::from_utf8(raw)
        {
            return Ok(Self {
                whole: Cow::Borrowed(whole),
                path_len,
                origin_form: true,
                ..Self::server_wide(authority)
            });
        }
        Self::read_slowly(raw, authority)
    }

    /// Reads a target with escapes, dots, parameters or other bytes than the common ones.
    fn read_slowly(raw: &'a [u8], authority: Option<Authority<'a>>) -> Result<Self, BadTarget> {
        let end = raw.iter().position(|byte| *byte == b'?').unwrap_or(raw.len());
        let reading = read_path(&raw[..end])?;
        let query = Self::query_text(&raw[end..])?;
        let path = text(in_ascii(&raw[..end]))?;
        let raw_path = match &path {
            Cow::Borrowed(_) => None,
            Cow::Owned(_) => Some(as_sent(&raw[..end])),
        };
        let read = (reading.path != path).then(|| reading.path.into_owned());
        let bare = without_parameters(read.as_deref().unwrap_or(&path));
        let path_len = path.len();
        let whole = match (path, query) {
            // Both borrow, so the target is unchanged, and both have checked that it is ASCII.
            (Cow::Borrowed(_), Cow::Borrowed(_)) => {
                Cow::Borrowed(std::str::from_utf8(raw).map_err(|_| BadTarget::Byte)?)
            }
            (path, query) => Cow::Owned([path, query].concat()),
        };
        if whole.len() > MAX_LENGTH {
            return Err(BadTarget::TooLong);
        }
        let has_escaped_slash = reading.has_escaped_slash;
        Ok(Self { whole, path_len, raw_path, read, bare, has_escaped_slash, authority, origin_form: true })
    }

    /// The query with its `?`, or nothing.
    fn query_text(raw: &'a [u8]) -> Result<Cow<'a, str>, BadTarget> {
        // Without an early exit this is one pass of vector instructions.
        if raw.iter().fold(false, |bad, byte| bad | (*byte <= b' ') | (*byte == 0x7f) | (*byte == b'#')) {
            return Err(BadTarget::Byte);
        }
        text(in_ascii(raw))
    }

    /// The path for matching: in its widest reading, without the parameters of segments.
    pub fn bare_path(&self) -> &str {
        self.bare.as_deref().unwrap_or(self.read_path())
    }

    /// The path in its widest reading, with the parameters of segments.
    pub fn read_path(&self) -> &str {
        self.read.as_deref().unwrap_or(self.path())
    }

    /// The forwarded path, in ASCII; `*` for OPTIONS of the server as a whole.
    pub fn path(&self) -> &str {
        &self.whole[..self.path_len]
    }

    /// The path as sent; bytes that are not UTF-8 are encoded.
    pub fn raw_path(&self) -> &str {
        self.raw_path.as_deref().unwrap_or(self.path())
    }

    /// Whether a segment of the path has parameters.
    pub fn has_parameters(&self) -> bool {
        self.bare.is_some()
    }

    /// Whether the path has `%2F`, `%5C` or `\`.
    pub fn has_escaped_slash(&self) -> bool {
        self.has_escaped_slash
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.whole.get(self.path_len + 1..)
    }

    /// Path and query as forwarded, in ASCII.
    pub fn forwarded(&self) -> &str {
        &self.whole
    }

    /// Whether [`Target::forwarded`] differs from the text that was sent.
    pub fn is_rewritten(&self) -> bool {
        !self.origin_form || matches!(self.whole, Cow::Owned(_))
    }

    /// The requested host and port: the target's authority, or the Host field.
    pub fn authority(&self) -> Option<Authority<'a>> {
        self.authority
    }

    /// The requested host, without port and final dot.
    pub fn host(&self) -> Option<&'a str> {
        self.authority.map(|authority| authority.host())
    }
}

/// The length of the path, if the target has only one reading: letters, digits, `-`, `_`, `~`, and slashes and dots
/// that are not next to each other, and a query of common bytes.
fn plain_path_length(raw: &[u8]) -> Option<usize> {
    raw.first().filter(|first| **first == b'/')?;
    let mut before = b'.';
    for (at, byte) in raw.iter().enumerate() {
        let is_plain = match byte {
            b'?' => {
                let is_common = |byte: &u8| PLAIN[usize::from(*byte)] || b"/.?=&%+,:;@!$*()'".contains(byte);
                return raw[at..].iter().all(is_common).then_some(at);
            }
            b'/' | b'.' => !matches!(before, b'/' | b'.') || at == 0,
            byte => PLAIN[usize::from(*byte)],
        };
        if !is_plain {
            return None;
        }
        before = *byte;
    }
    Some(raw.len())
}

/// The bytes that have one reading anywhere in a target.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let text = byte as u8;
        plain[byte] = text.is_ascii_alphanumeric() || matches!(text, b'-' | b'_' | b'~');
        byte += 1;
    }
    plain
};

fn text(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, BadTarget> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| BadTarget::Byte),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadTarget::Byte),
    }
}

/// The text as sent; bytes that are not UTF-8 are encoded.
fn as_sent(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        out.push_str(chunk.valid());
        // Bytes beyond ASCII are encoded whatever the set.
        out.extend(percent_encode(chunk.invalid(), CONTROLS));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_plain_target_has_the_reading_of_any_other(raw in "(/[a-cA~_-]{0,3}|[.;%]{0,1}){0,6}(\\?[a-c/.=&%+,:;@!<\"ß]{0,6})?") {
            if plain_path_length(raw.as_bytes()).is_some() {
                let (plain, slow) = (Target::parse(raw.as_bytes(), &Method::GET, None).unwrap(), Target::read_slowly(raw.as_bytes(), None).unwrap());
                let readings = |target: &Target<'_>| {
                    [target.path(), target.raw_path(), target.read_path(), target.bare_path(), target.forwarded()]
                        .map(str::to_owned)
                };
                prop_assert_eq!(readings(&plain), readings(&slow));
                prop_assert_eq!(plain.query(), slow.query());
                prop_assert_eq!(plain.is_rewritten(), slow.is_rewritten());
                prop_assert_eq!(plain.has_escaped_slash() || plain.has_parameters(), slow.has_escaped_slash() || slow.has_parameters());
            }
        }
    }
}
