//! ClientHello with a server name that is no DNS name, as `localhost:8443`: rustls ends such a handshake before a
//! certificate is selected. The type of the extension is replaced by one that rustls ignores. The length stays, and
//! `transcript` undoes the replacement in the bytes that are hashed.

use std::borrow::Cow;
use std::ops::Range;

/// Types of records (RFC 8446 §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The length of a record's header.
const RECORD_HEADER: usize = 5;

/// The type of a ClientHello, and the length of a message's header (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;

/// The type of the extension server_name (RFC 6066 §3).
pub(super) const SERVER_NAME: [u8; 2] = [0, 0];

/// Its replacement: a type for private use (RFC 8447 §7) that rustls ignores.
const REPLACEMENT: [u8; 2] = [0xff, 0x4d];

/// The most bytes of a message, and of records that contain a message: those of rustls.
const LARGEST: usize = 0xffff;

/// The content of an ignored extension server_name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IgnoredName(Vec<u8>);

impl IgnoredName {
    /// The host name, if there is one. It can contain any character.
    pub(crate) fn host_name(&self) -> Option<Cow<'_, str>> {
        let mut list = Fields::new(self.0.get(2..)?);
        // Entries of other types have no known length, so the first one decides.
        if list.take(1)? != [0] {
            return None;
        }
        let length = list.length(2)?;
        list.take(length).map(String::from_utf8_lossy)
    }
}

/// The result of more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelloProgress {
    /// The message is incomplete.
    Incomplete,
    /// The message is a complete ClientHello.
    Complete,
    /// It is no ClientHello, or too large.
    Other,
}

/// Records up to the end of a ClientHello, which arrives in any number of records and pieces. ChangeCipherSpec and
/// application data before it stay as they are.
#[derive(Debug, Default)]
pub(crate) struct HelloRecords {
    bytes: Vec<u8>,
    /// The length of the records that were read.
    read: usize,
    message: Vec<u8>,
    /// The places of the message's fragments in `bytes`.
    fragments: Vec<Range<usize>>,
}

impl HelloRecords {
    /// Reads these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> HelloProgress {
        self.bytes.extend_from_slice(bytes);
        while let Some((kind, content)) = self.record() {
            self.read = content.end;
            match kind {
                HANDSHAKE => {}
                // For middleboxes, and early data (RFC 8446 §4.2.10, §D.4).
                CHANGE_CIPHER_SPEC | APPLICATION_DATA if self.message.is_empty() => continue,
                _ => return HelloProgress::Other,
            }
            self.message.extend_from_slice(&self.bytes[content.clone()]);
            self.fragments.push(content);
            if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
                return HelloProgress::Other;
            }
            match message_length(&self.message) {
                Some(length) if length > LARGEST => return HelloProgress::Other,
                Some(length) if length <= self.message.len() => return HelloProgress::Complete,
                _ => {}
            }
        }
        if self.bytes.len() > LARGEST { HelloProgress::Other } else { HelloProgress::Incomplete }
    }

    /// The next record: its type, and the place of its content.
    fn record(&self) -> Option<(u8, Range<usize>)> {
        let header = self.bytes.get(self.read..self.read + RECORD_HEADER)?;
        let start = self.read + RECORD_HEADER;
        let end = start + usize::from(u16::from_be_bytes([header[3], header[4]]));
        (end <= self.bytes.len()).then_some((header[0], start..end))
    }

    /// Replaces the type of server_name in a complete ClientHello. Changes nothing and returns `None` without this
    /// extension, and if the ClientHello has one of the other type too. With `expected`, also if the content differs.
    pub(crate) fn ignore_server_name(&mut self, expected: Option<&IgnoredName>) -> Option<IgnoredName> {
        let mut found = None;
        for (at, kind, content) in extensions(&self.message) {
            match kind {
                SERVER_NAME if found.is_none() => found = Some((at, IgnoredName(content.to_vec()))),
                SERVER_NAME | REPLACEMENT => return None,
                _ => {}
            }
        }
        let (at, name) = found.filter(|(_, name)| expected.is_none_or(|expected| expected == name))?;
        self.message[at..at + REPLACEMENT.len()].copy_from_slice(&REPLACEMENT);
        let mut rest = &self.message[..];
        for fragment in &self.fragments {
            let (part, after) = rest.split_at(fragment.len());
            self.bytes[fragment.clone()].copy_from_slice(part);
            rest = after;
        }
        Some(name)
    }

    /// The bytes, and the length of the records up to the end of the message.
    pub(crate) fn into_parts(self) -> (Vec<u8>, usize) {
        (self.bytes, self.read)
    }
}

/// The place of the type that was replaced in a ClientHello, which may be followed by other messages, or cut in its last
/// extension as for a binder (RFC 8446 §4.2.11.2).
pub(super) fn replaced_type(message: &[u8]) -> Option<usize> {
    extensions(message).find(|(_, kind, _)| *kind == REPLACEMENT).map(|(at, ..)| at)
}

/// The length of a message with its header.
fn message_length(message: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *message.first_chunk::<MESSAGE_HEADER>()?;
    Some(MESSAGE_HEADER + number(&length))
}

/// The extensions of a ClientHello: the place and value of the type, and the content. None for other bytes.
fn extensions(message: &[u8]) -> impl Iterator<Item = (usize, [u8; 2], &[u8])> {
    let mut fields = extension_fields(message).unwrap_or_else(|| Fields::new(&[]));
    std::iter::from_fn(move || {
        let at = fields.at;
        let kind = *fields.take(2)?.first_chunk()?;
        let length = fields.length(2)?;
        Some((at, kind, fields.take_at_most(length)))
    })
}

/// The fields from the first extension on (RFC 8446 §4.1.2).
fn extension_fields(message: &[u8]) -> Option<Fields<'_>> {
    let length = message_length(message)?;
    if message.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    let mut fields = Fields { bytes: message.get(..length).unwrap_or(message), at: MESSAGE_HEADER };
    // The version and the random number; the session, the cipher suites and the compression methods.
    fields.take(2 + 32)?;
    for width in [1, 2, 1] {
        let length = fields.length(width)?;
        fields.take(length)?;
    }
    let length = fields.length(2)?;
    let end = fields.at + length;
    fields.bytes = fields.bytes.get(..end).unwrap_or(fields.bytes);
    Some(fields)
}

/// Fields of a message.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    /// The rest, if it is shorter.
    fn take_at_most(&mut self, count: usize) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let taken = &rest[..rest.len().min(count)];
        self.at += taken.len();
        taken
    }

    /// A length of `width` bytes.
    fn length(&mut self, width: usize) -> Option<usize> {
        self.take(width).map(number)
    }
}

/// A big-endian number of at most three bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests;
