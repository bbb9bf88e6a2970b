//! HTTP/1 messages as lines of text that can be compared: the start line, the fields in their order and
//! spelling, and the body without its chunking.

use crate::support::Wire;
use crate::support::raw::{fields, lossy};
use std::io;

/// A body of more bytes is shown by its length and a checksum.
const SHOWN: usize = 200;

/// The message that is read.
#[derive(Clone, Copy)]
pub(super) enum Kind<'m> {
    Request,
    ResponseTo(&'m str),
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// The connection ends the message.
    WithConnection,
    /// More bytes must follow.
    Missing,
    /// The chunks are invalid.
    Broken,
}

/// A message, or its beginning.
pub(super) struct Message {
    head: String,
    /// The header is complete.
    pub(super) has_head: bool,
    pub(super) body: Vec<u8>,
    pub(super) end: End,
}

impl Message {
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.end, End::Complete | End::Broken)
    }

    /// The second word of the start line: a target or a status.
    pub(super) fn second_word(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let is_date = |line: &str| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:"));
        let shown = self.head.lines().filter(|line| !line.is_empty() && !is_date(line));
        let mut lines: Vec<_> = shown
            .map(|line| {
                if line.len() <= SHOWN { format!("| {line}") } else { format!("| {}", show(line.as_bytes())) }
            })
            .collect();
        lines.push(format!("| body {}, {:?}", show(&self.body), self.end));
        lines
    }
}

/// Bytes, or the length and a checksum of many.
pub(super) fn show(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return format!("{:?}", lossy(bytes));
    }
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.rotate_left(5).wrapping_add(u64::from(*byte)));
    format!("of {} bytes with checksum {sum:x}", bytes.len())
}

/// Receives until the next message is complete or `is_enough`, or to the end of the connection. The bytes stay
/// in the wire.
///
/// # Errors
/// When nothing comes for too long.
pub(super) fn receive(
    wire: &mut Wire,
    kind: Kind<'_>,
    is_enough: impl Fn(&Message) -> bool,
) -> io::Result<()> {
    loop {
        let (message, _) = parse(wire.buffered(), kind);
        if message.is_complete() || is_enough(&message) {
            return Ok(());
        }
        if !fill(wire)? {
            return Ok(());
        }
    }
}

/// Receives to the end of the connection. The bytes stay in the wire.
///
/// # Errors
/// When nothing comes for too long.
pub(super) fn receive_all(wire: &mut Wire) -> io::Result<()> {
    while fill(wire)? {}
    Ok(())
}

/// Returns whether something was received; a reset is an end.
fn fill(wire: &mut Wire) -> io::Result<bool> {
    match wire.fill() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        count => Ok(count? > 0),
    }
}

/// What was received of the next message.
pub(super) fn peek(wire: &Wire, kind: Kind<'_>) -> Message {
    parse(wire.buffered(), kind).0
}

/// Takes what was received of the next message.
pub(super) fn take(wire: &mut Wire, kind: Kind<'_>) -> Message {
    let (message, used) = parse(wire.buffered(), kind);
    wire.exactly(used).expect("these bytes are buffered");
    message
}

/// The message at the start of these bytes, and its number of bytes.
fn parse(bytes: &[u8], kind: Kind<'_>) -> (Message, usize) {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
        let message = Message { head: lossy(bytes), has_head: false, body: Vec::new(), end: End::Missing };
        return (message, bytes.len());
    };
    let mut message =
        Message { head: lossy(&bytes[..end]), has_head: true, body: Vec::new(), end: End::Complete };
    let used = parse_body(&mut message, &bytes[end..], kind);
    (message, end + used)
}

/// Adds the body at the start of these bytes. Returns its number of bytes.
fn parse_body(message: &mut Message, bytes: &[u8], kind: Kind<'_>) -> usize {
    let status = message.second_word();
    let is_bodiless =
        |method: &str| method == "HEAD" || status.starts_with('1') || status == "204" || status == "304";
    let field = |name: &str| fields(&message.head, name).next();
    let length = field("content-length").map(|length| length.parse().unwrap_or(usize::MAX));
    match (kind, length) {
        (Kind::ResponseTo(method), _) if is_bodiless(method) => 0,
        _ if field("transfer-encoding").is_some() => parse_chunks(message, bytes),
        (Kind::Request, None) => 0,
        (Kind::ResponseTo(_), None) => {
            message.end = End::WithConnection;
            message.body = bytes.to_vec();
            bytes.len()
        }
        (_, Some(length)) => {
            message.body = bytes[..length.min(bytes.len())].to_vec();
            message.end = if bytes.len() < length { End::Missing } else { End::Complete };
            message.body.len()
        }
    }
}

fn parse_chunks(message: &mut Message, bytes: &[u8]) -> usize {
    let line = |at: usize| {
        let end = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        Some((lossy(&bytes[at..at + end]), at + end + 2))
    };
    let mut at = 0;
    loop {
        message.end = End::Missing;
        let Some((size, start)) = line(at) else { return bytes.len() };
        let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16) else {
            message.end = End::Broken;
            return bytes.len();
        };
        at = start;
        if size == 0 {
            break;
        }
        message.body.extend_from_slice(&bytes[at..bytes.len().min(at + size)]);
        if bytes.len() < at + size + 2 {
            return bytes.len();
        }
        at += size + 2;
    }
    loop {
        let Some((trailer, next)) = line(at) else { return bytes.len() };
        at = next;
        if trailer.is_empty() {
            message.end = End::Complete;
            return at;
        }
    }
}
