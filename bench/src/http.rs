//! Minimal HTTP/1.1 between load and backend: fixed requests and responses, and the opening handshake of RFC 6455
//! §4. Anything unexpected is an error, so that wrong responses are never counted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;

/// The body of every ordinary response.
pub(crate) const BODY: &[u8] = b"ok";

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
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// The value of Sec-WebSocket-Accept for a key.
pub(crate) fn accept(key: &[u8]) -> String {
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
    let length =
        field(head, "content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    if status(head) != Some(200) || length != Some(BODY.len()) {
        return Err(unexpected(head));
    }
    match body.get(..BODY.len()) {
        None => Ok(None),
        Some(BODY) => Ok(Some(end + BODY.len())),
        Some(_) => Err(io::Error::other("the body of a response is wrong")),
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
