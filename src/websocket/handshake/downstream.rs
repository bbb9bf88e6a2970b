//! The client's side: is this request a WebSocket handshake, is it a good one, and its 101.

use super::has_token;
use crate::websocket::random::random_bytes;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// Base64 whose last character may have spare bits that are not 0.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Length of a key: 16 bytes in base64.
const KEY: usize = 24;

/// A good request to open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Key` as it came, or as the gateway made it.
    pub key: [u8; KEY],
}

impl Handshake {
    /// With a fresh random key (RFC 6455 §4.1): for a client that brings none, and for the gateway's own handshakes.
    pub(crate) fn with_own_key() -> Self {
        let nonce: [u8; 16] = random_bytes();
        let mut key = [0; KEY];
        // 16 bytes are always 24 characters: the slice cannot be short.
        let written = STANDARD.encode_slice(nonce, &mut key);
        debug_assert_eq!(written.ok(), Some(KEY));
        Self { key }
    }
}

/// Why a request opens no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// It does not ask for one. It is ordinary HTTP, to be forwarded without its `Upgrade` field.
    NotWebSocket,
    /// It asks for another version: 426 with `Sec-WebSocket-Version: 13` (RFC 6455 §4.4).
    Version,
    /// It breaks RFC 6455 §4.2.1: 400.
    Bad(&'static str),
}

/// Checks a client's request by RFC 6455 §4.2.1.
///
/// # Errors
/// [`Refusal::NotWebSocket`] when it does not ask for a WebSocket at all: another method, HTTP/1.0 or
/// HTTP/2, no `websocket` in `Upgrade`, no `upgrade` in `Connection`; otherwise what is wrong with it.
pub fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<Handshake, HandshakeError> {
    let asks = method == Method::GET
        && version == Version::HTTP_11
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade");
    if !asks {
        return Err(HandshakeError::NotWebSocket);
    }
    if sole(headers, &HOST).is_none() {
        return Err(HandshakeError::Bad("a WebSocket handshake needs one Host"));
    }
    // What stands behind the head are frames. A body would be read as frames by one side and as a
    // body by the other.
    let body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0");
    if body {
        return Err(HandshakeError::Bad("a WebSocket handshake has no body"));
    }
    check_version(headers)?;
    let key = sole(headers, &SEC_WEBSOCKET_KEY).and_then(key);
    key.map(|key| Handshake { key }).ok_or(HandshakeError::Bad("Sec-WebSocket-Key is not 16 bytes in base64"))
}

/// Checks the fields of an extended CONNECT for a WebSocket (RFC 8441 §5). It has no key: the backend is
/// asked with a fresh one of the gateway's.
///
/// # Errors
/// What is wrong with it; never [`Refusal::NotWebSocket`], for its `:protocol` says that it is one.
pub fn check_stream(headers: &HeaderMap) -> Result<Handshake, HandshakeError> {
    // The frames are the stream's data: whatever length were told, they would have to end there.
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(HandshakeError::Bad("a WebSocket handshake has no body"));
    }
    check_version(headers)?;
    Ok(Handshake::with_own_key())
}

fn check_version(headers: &HeaderMap) -> Result<(), HandshakeError> {
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    let first = versions.next();
    if versions.next().is_some() {
        return Err(HandshakeError::Bad("Sec-WebSocket-Version appears more than once"));
    }
    let known = first.is_some_and(|version| version.as_bytes().trim_ascii() == b"13");
    if known { Ok(()) } else { Err(HandshakeError::Version) }
}

/// The value of a field that stands there exactly once.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn key(value: &HeaderValue) -> Option<[u8; KEY]> {
    let key: [u8; KEY] = value.as_bytes().trim_ascii().try_into().ok()?;
    let mut decoded = [0; 18];
    // Only the text is used, and `ws` for Node.js takes keys whose last character has spare bits that are not 0.
    (LENIENT.decode_slice(key, &mut decoded) == Ok(16)).then_some(key)
}

/// Appends the client's 101 to `out`: the fields of the backend's answer as the proxy leaves them,
/// with Connection, Upgrade and Accept (see [`Request::accept`](super::Request::accept)) always our own and
/// without a body's framing.
pub fn write_switching(out: &mut Vec<u8>, accept: &[u8; 28], headers: &HeaderMap) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
    );
    out.extend_from_slice(b"sec-websocket-accept: ");
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n");
    for (name, value) in end_to_end(headers) {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields of a backend's 101 that the client gets as well.
pub fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    const OURS: [HeaderName; 5] =
        [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH, TRANSFER_ENCODING];
    headers.iter().filter(|(name, _)| !OURS.contains(name))
}

/// Appends one field line.
pub(super) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}
