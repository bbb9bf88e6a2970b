//! Minimal HTTP/1.1 between load and backend: fixed requests and responses, and the opening handshake of RFC 6455
//! §4. Anything unexpected is an error, so that wrong responses are never counted.

use crate::conn::Conn;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;

/// The body of every ordinary response.
pub(crate) const BODY: &[u8] = b"ok";

/// The bytes of large bodies, sent as often as necessary.
static BODY_PIECE: [u8; 256 << 10] = [b'b'; 256 << 10];

/// The byte by which events are counted.
const EVENT_MARK: u8 = b'|';

/// The path prefixes that each gateway routes.
pub(crate) const ROUTES: usize = 100;

/// The route after them, on which a plugin of Moongate inspects WebSocket messages.
pub(crate) const INSPECTED: usize = ROUTES;

/// The longest head that either end accepts, in bytes.
pub(crate) const MAX_HEAD: usize = 16 << 10;

/// The key of every handshake, from RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The prefix of the `number`th route.
pub(crate) fn route(number: usize) -> String {
    format!("/service-{number:02}/")
}

/// A request for the `number`th route with additional `fields`, each ended by CRLF.
pub(crate) fn get_request(number: usize, fields: &str) -> Vec<u8> {
    format!(
        "GET {}item?id=17 HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: moongate-bench\r\n\
         Accept: */*\r\n{fields}\r\n",
        route(number)
    )
    .into_bytes()
}

/// An opening handshake for the `number`th route.
pub(crate) fn handshake(number: usize) -> Vec<u8> {
    format!(
        "GET {}socket HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: moongate-bench\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n",
        route(number)
    )
    .into_bytes()
}

/// A request for a response body of `size` bytes.
pub(crate) fn download_request(number: usize, size: u64) -> Vec<u8> {
    request("GET", number, &format!("download?{size}"), "")
}

/// The head of a request with a body of `size` bytes.
pub(crate) fn upload_head(number: usize, size: u64) -> Vec<u8> {
    request("POST", number, "upload", &format!("Content-Length: {size}\r\n"))
}

/// A request for an event stream.
pub(crate) fn event_stream_request(number: usize) -> Vec<u8> {
    request("GET", number, "events", "Accept: text/event-stream\r\n")
}

/// A request that makes the backend send an event to all event streams.
pub(crate) fn publish_request() -> Vec<u8> {
    request("GET", 0, "publish", "")
}

/// A request for `resource` on the `number`th route with additional `fields`, each ended by CRLF.
fn request(method: &str, number: usize, resource: &str, fields: &str) -> Vec<u8> {
    format!(
        "{method} {}{resource} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: moongate-bench\r\n{fields}\r\n",
        route(number)
    )
    .into_bytes()
}

/// A request, as the backend understands it.
pub(crate) enum Request<'a> {
    /// A small response.
    Item,
    /// A response body of this many bytes.
    Download(u64),
    /// A request body of this many bytes.
    Upload(u64),
    /// An event stream.
    EventStream,
    /// An event for all event streams.
    Publish,
    /// A WebSocket with this Sec-WebSocket-Key.
    WebSocket(&'a [u8]),
}

/// The request with this head. Its path after the route selects the kind.
pub(crate) fn parse_request(head: &[u8]) -> io::Result<Request<'_>> {
    let incomplete = || io::Error::other("a request lacks a field");
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let resource = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let (resource, query) = split_once(resource, b'?');
    Ok(match resource {
        b"socket" => Request::WebSocket(field(head, "sec-websocket-key").ok_or_else(incomplete)?),
        b"events" => Request::EventStream,
        b"publish" => Request::Publish,
        b"download" => Request::Download(number(query).ok_or_else(incomplete)?),
        // A collector of traces takes exports as it takes uploads.
        b"upload" | b"traces" => Request::Upload(content_length(head).ok_or_else(incomplete)?),
        _ => Request::Item,
    })
}

/// Appends the head of a response to a download.
pub(crate) fn put_download_head(out: &mut Vec<u8>, size: u64) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// Appends the response to an opening handshake.
pub(crate) fn put_handshake_response(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept(key).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Sends as much of a body with `left` bytes as possible; true if nothing is left.
pub(crate) fn send_body(conn: &mut Conn, left: &mut u64) -> io::Result<bool> {
    while *left > 0 {
        let piece = &BODY_PIECE[..BODY_PIECE.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
        let sent = conn.send_some(piece)?;
        *left -= sent as u64;
        if sent < piece.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An event of 128 bytes as a chunk (RFC 9112 §7.1). [`EVENT_MARK`] occurs once in it, and nowhere else in a stream.
pub(crate) fn event_chunk() -> Vec<u8> {
    let event = format!("data: {}{}\n\n", "e".repeat(119), char::from(EVENT_MARK));
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// The number of events in a piece of an event stream, however the gateway has split it into chunks.
pub(crate) fn count_events(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == EVENT_MARK).count() as u64
}

/// The end of the head at the beginning of `bytes`, after its empty line.
///
/// # Errors
/// `bytes` are longer than [`MAX_HEAD`] and hold no complete head.
pub(crate) fn head_end(bytes: &[u8]) -> io::Result<Option<usize>> {
    match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => Ok(Some(at + 4)),
        None if bytes.len() > MAX_HEAD => Err(io::Error::other("a head is longer than the limit")),
        None => Ok(None),
    }
}

/// The value of a field, without spaces around it.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The status of a response's head.
fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// The value of Sec-WebSocket-Accept for a key.
fn accept(key: &[u8]) -> String {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(key);
    digest.update(GUID);
    STANDARD.encode(digest.digest().bytes())
}

/// The length of the whole response at the beginning of `bytes`, once it is complete.
///
/// # Errors
/// The response is not a 200 with the expected body.
pub(crate) fn response_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = head_end(bytes)? else { return Ok(None) };
    let (head, body) = bytes.split_at(end);
    check_content_length(head, BODY.len() as u64)?;
    match body.get(..BODY.len()) {
        None => Ok(None),
        Some(BODY) => Ok(Some(end + BODY.len())),
        Some(_) => Err(io::Error::other("the body of a response is wrong")),
    }
}

/// # Errors
/// The response is not a 200, or its body has another length.
pub(crate) fn check_content_length(head: &[u8], length: u64) -> io::Result<()> {
    check_ok(head)?;
    if content_length(head) == Some(length) { Ok(()) } else { Err(unexpected(head)) }
}

/// # Errors
/// The response is not a 200.
pub(crate) fn check_ok(head: &[u8]) -> io::Result<()> {
    if status(head) == Some(200) { Ok(()) } else { Err(unexpected(head)) }
}

fn content_length(head: &[u8]) -> Option<u64> {
    number(field(head, "content-length")?)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn split_once(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// The length of the 101 at the beginning of `bytes`, once it is complete.
///
/// # Errors
/// The response is not a 101.
pub(crate) fn handshake_response_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = head_end(bytes)? else { return Ok(None) };
    if status(&bytes[..end]) == Some(101) { Ok(Some(end)) } else { Err(unexpected(&bytes[..end])) }
}

fn unexpected(head: &[u8]) -> io::Error {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    io::Error::other(format!("unexpected response: {}", String::from_utf8_lossy(line)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn the_accept_value_is_the_one_of_the_rfc() {
        assert_eq!(accept(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_complete_200_with_the_expected_body_counts() {
        let response = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2 \r\n\r\nok";
        assert_eq!(response_length(response).unwrap(), Some(response.len()));
        assert_eq!(response_length(&response[..response.len() - 1]).unwrap(), None);
        assert_eq!(response_length(&response[..20]).unwrap(), None);
        assert!(response_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").is_err());
        assert!(response_length(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nok").is_err());
    }

    #[test]
    fn field_names_are_case_insensitive() {
        let head = handshake(3);
        assert_eq!(field(&head, "sec-websocket-KEY"), Some(KEY.as_bytes()));
        assert_eq!(field(&head, "sec-websocket"), None);
    }
}
