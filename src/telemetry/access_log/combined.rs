//! Combined log format of Apache and nginx. It has requests only, so a WebSocket has one line, at its end.

use super::entry::{Entry, Event};
use super::escape;
use super::timestamp::Timestamp;
use moongate_sdk::ClientAddress;

/// Appends the entry and a line feed; nothing for the events `open` and `reconnect`.
pub(super) fn write(line: &mut Vec<u8>, stamp: &Timestamp, entry: &Entry<'_>) {
    let sent = match entry.event {
        Event::Request => entry.bytes_sent,
        Event::Open | Event::Reconnect(_) => return,
        Event::Close(closed) => closed.to_client.bytes,
    };
    match entry.client {
        Some(ClientAddress::Ip(address)) => escape::address(line, address),
        Some(ClientAddress::Unreadable(text)) => escape::quoted(line, text.as_bytes()),
        None => line.push(b'-'),
    }
    line.extend_from_slice(b" - - [");
    line.extend_from_slice(stamp.common());
    line.extend_from_slice(b"] \"");
    escape::quoted(line, entry.method.as_bytes());
    line.push(b' ');
    escape::quoted(line, entry.path);
    line.push(b' ');
    escape::quoted(line, entry.protocol.as_bytes());
    line.extend_from_slice(b"\" ");
    escape::decimal(line, u64::from(entry.status));
    line.push(b' ');
    escape::decimal(line, sent);
    for field in [entry.referer, entry.user_agent] {
        line.extend_from_slice(b" \"");
        escape::quoted(line, field);
        line.push(b'"');
    }
    line.push(b'\n');
}
