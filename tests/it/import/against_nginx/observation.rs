//! One request to a gateway before recording backends: what the client and what the backends see of it.

use crate::support::raw::Wire;
use crate::support::{Origin, Seen, ws};
use std::net::SocketAddr;

/// Fields of forwarded requests that are not compared, with the reason.
const REQUEST_FIELDS: &[(&str, &str)] = &[
    ("connection", "each side has connections of its own"),
    ("x-forwarded-host", "the gateway adds it (`server.x_forwarded`)"),
    ("x-forwarded-proto", "the gateway adds it (`server.x_forwarded`)"),
    ("x-forwarded-prefix", "the gateway adds it to a stripped path"),
];

/// Fields of responses that are not compared, with the reason.
const RESPONSE_FIELDS: &[(&str, &str)] = &[
    ("date", "it is the time"),
    ("server", "each has its own"),
    ("connection", "each side has connections of its own"),
    ("keep-alive", "each side has connections of its own"),
    ("expires", "`expires` sets Cache-Control alone"),
    ("vary", "the plugin `compress` always sends it"),
    ("retry-after", "the gateway adds it to 429"),
    ("ratelimit", "the plugin `rate_limit` adds it"),
    ("ratelimit-policy", "the plugin `rate_limit` adds it"),
    ("x-request-id", "the gateway adds it to its own responses"),
];

/// Fields that describe a body, which the gateway's own responses and nginx's have in other words.
const BODY_FIELDS: &[&str] =
    &["content-type", "content-length", "transfer-encoding", "cache-control", "allow"];

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Get,
    Post,
    Handshake,
}

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Observed {
    pub(super) status: u16,
    /// The fields of the response, without those that differ by design.
    fields: Vec<String>,
    /// The message that came back through a WebSocket.
    echo: Option<String>,
    /// The request line and the fields that a backend received.
    pub(super) forwarded: Option<(String, Vec<String>)>,
}

impl Observed {
    /// Removes what the gateway adds by design: X-Forwarded-For, and fields of an empty value, which nginx omits.
    pub(super) fn forget_added(&mut self, theirs: &Self) {
        let has_chain = |observed: &Self| {
            let fields = observed.forwarded.iter().flat_map(|(_, fields)| fields);
            fields.into_iter().any(|field| field.starts_with("x-forwarded-for:"))
        };
        let keeps_chain = has_chain(theirs);
        if let Some((_, fields)) = &mut self.forwarded {
            fields.retain(|field| {
                !field.ends_with(": ") && (keeps_chain || !field.starts_with("x-forwarded-for:"))
            });
        }
    }

    /// Removes the name of the backend, where a balancer selects it.
    pub(super) fn forget_backend(&mut self) {
        self.fields.retain(|field| !field.starts_with("x-backend:"));
    }
}

/// A request as a client writes it.
pub(super) fn request(kind: Kind, host: &str, path: &str, more: &str) -> String {
    let common = format!(
        "User-Agent: test\r\nAccept-Encoding: gzip\r\nCookie: a=b; c=d\r\nX-Secret: client\r\nX-Own: 1\r\n{more}"
    );
    match kind {
        Kind::Get => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{common}Connection: close\r\n\r\n"),
        Kind::Post => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{common}Content-Length: 3\r\nConnection: close\r\n\r\na=1"
        ),
        Kind::Handshake => format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{common}Origin: http://{host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            ws::KEY
        ),
    }
}

/// Sends a request on a connection of its own.
pub(super) fn observe(address: SocketAddr, host: &str, request: &str, backends: &[Origin]) -> Observed {
    for backend in backends {
        backend.forget();
    }
    let mut wire = Wire::connect(address);
    wire.send(request);
    let head = wire.head().unwrap().unwrap_or_default();
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let echo = (status == 101).then(|| {
        wire.send(ws::masked(1, b"hello"));
        String::from_utf8(ws::read_frame(&mut wire).unwrap().1).unwrap()
    });
    let seen: Vec<Seen> = backends.iter().flat_map(Origin::seen).collect();
    assert!(seen.len() < 2, "one request became {seen:?}");
    let is_own = seen.is_empty();
    let mut fields: Vec<String> = lines(&head)
        .filter(|(name, _)| !RESPONSE_FIELDS.iter().any(|(ignored, _)| ignored == name))
        .filter(|(name, _)| !is_own || !BODY_FIELDS.contains(&name.as_str()))
        .map(|(name, value)| match name.as_str() {
            // RFC 7617 §2.1; nginx does not send it.
            "www-authenticate" => format!("{name}: {}", value.replace(", charset=\"UTF-8\"", "")),
            "location" => format!("{name}: {}", without_origin(&value, host, address)),
            _ => format!("{name}: {value}"),
        })
        .collect();
    fields.sort();
    Observed { status, fields, echo, forwarded: seen.first().map(forwarded) }
}

/// The names, in lower case, and values of a head.
fn lines(head: &str) -> impl Iterator<Item = (String, String)> {
    head.lines().skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    })
}

/// nginx writes whole URLs, with its port where it is not the scheme's.
fn without_origin(location: &str, host: &str, address: SocketAddr) -> String {
    let location = location.replace(&format!(":{}", address.port()), "");
    location.strip_prefix(&format!("http://{host}")).unwrap_or(&location).to_owned()
}

fn forwarded(seen: &Seen) -> (String, Vec<String>) {
    let line = seen.line().rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
    let is_compared = |name: &str| !REQUEST_FIELDS.iter().any(|(ignored, _)| *ignored == name);
    let mut fields: Vec<String> = lines(&seen.head)
        .filter(|(name, _)| is_compared(name))
        .map(|(name, value)| format!("{name}: {}", value.to_ascii_lowercase()))
        .collect();
    fields.sort();
    (line, fields)
}
