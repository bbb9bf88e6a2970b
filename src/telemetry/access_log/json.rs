//! JSON format: one object per line, with a fixed order of fields; fields without a value are left out.

use super::entry::{Closed, Entry, Event, Flow, Note};
use super::escape;
use super::timestamp::Timestamp;
use moongate_sdk::ClientAddress;
use std::time::Duration;

/// Appends the entry and a line feed.
pub(super) fn write(line: &mut Vec<u8>, stamp: &Timestamp, entry: &Entry<'_>) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(stamp.rfc3339());
    line.push(b'"');
    match entry.event {
        Event::Request => {}
        Event::Open => text(line, "event", b"open"),
        Event::Reconnect(_) => text(line, "event", b"reconnect"),
        Event::Close(_) => text(line, "event", b"close"),
    }
    if let Some(client) = entry.client {
        key(line, "client");
        line.push(b'"');
        match client {
            ClientAddress::Ip(address) => escape::address(line, address),
            ClientAddress::Unreadable(text) => escape::json(line, text.as_bytes()),
        }
        line.push(b'"');
    }
    request(line, entry);
    match &entry.event {
        Event::Request | Event::Open => {}
        Event::Reconnect(moved) => {
            text(line, "reason", moved.reason.as_bytes());
            text(line, "from", moved.from.as_bytes());
        }
        Event::Close(closed) => close(line, closed),
    }
    line.extend_from_slice(b"}\n");
}

fn request(line: &mut Vec<u8>, entry: &Entry<'_>) {
    text(line, "method", entry.method.as_bytes());
    some_text(line, "host", entry.host);
    text(line, "path", entry.path);
    text(line, "protocol", entry.protocol.as_bytes());
    if let Some((version, cipher)) = entry.tls {
        text(line, "tls_version", version.as_bytes());
        text(line, "tls_cipher", cipher.as_bytes());
    }
    number(line, "status", u64::from(entry.status));
    number(line, "bytes_sent", entry.bytes_sent);
    number(line, "bytes_received", entry.bytes_received);
    milliseconds(line, "duration_ms", entry.duration);
    some_text(line, "route", entry.route.as_bytes());
    some_text(line, "upstream", entry.upstream.as_bytes());
    some_text(line, "endpoint", entry.endpoint.as_bytes());
    number(line, "attempts", u64::from(entry.attempts));
    some_text(line, "request_id", entry.request_id.as_bytes());
    some_text(line, "user_agent", entry.user_agent);
    some_text(line, "referer", entry.referer);
    some_text(line, "error", entry.error.unwrap_or_default().as_bytes());
    some_text(line, "error_detail", entry.error_detail.as_bytes());
    plugins(line, entry.notes);
}

/// An object with one object of notes per plugin.
fn plugins(line: &mut Vec<u8>, notes: &[Note<'_>]) {
    if notes.is_empty() {
        return;
    }
    line.extend_from_slice(b",\"plugins\":{");
    for (index, of_one) in notes.chunk_by(|a, b| a.plugin == b.plugin).enumerate() {
        let begin: &[u8] = if index == 0 { b"\"" } else { b"},\"" };
        line.extend_from_slice(begin);
        escape::json(line, of_one[0].plugin.as_bytes());
        line.extend_from_slice(b"\":{");
        for (index, note) in of_one.iter().enumerate() {
            let begin: &[u8] = if index == 0 { b"\"" } else { b",\"" };
            line.extend_from_slice(begin);
            escape::json(line, note.key.as_bytes());
            line.extend_from_slice(b"\":\"");
            escape::json(line, note.value.as_bytes());
            line.push(b'"');
        }
    }
    line.extend_from_slice(b"}}");
}

fn close(line: &mut Vec<u8>, closed: &Closed<'_>) {
    if let Some(code) = closed.code {
        number(line, "code", u64::from(code));
    }
    text(line, "reason", closed.reason.as_bytes());
    text(line, "by", closed.by.label().as_bytes());
    let Flow { messages, bytes } = closed.to_backend;
    number(line, "messages_to_backend", messages);
    number(line, "bytes_to_backend", bytes);
    let Flow { messages, bytes } = closed.to_client;
    number(line, "messages_to_client", messages);
    number(line, "bytes_to_client", bytes);
    milliseconds(line, "lifetime_ms", closed.lifetime);
    for (name, rtt) in [("client_rtt_ms", closed.client_rtt), ("backend_rtt_ms", closed.backend_rtt)] {
        if let Some(rtt) = rtt {
            milliseconds(line, name, rtt);
        }
    }
}

fn key(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

fn text(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(line, name);
    line.push(b'"');
    escape::json(line, value);
    line.push(b'"');
}

fn some_text(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        text(line, name, value);
    }
}

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    escape::decimal(line, value);
}

fn milliseconds(line: &mut Vec<u8>, name: &str, value: Duration) {
    key(line, name);
    escape::milliseconds(line, value);
}
