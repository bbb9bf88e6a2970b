//! Handshake request to the backend, as bytes.

use super::downstream::field;
use super::{Handshake, Offer};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request to open a WebSocket at a backend.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bytes, the same for every endpoint that is tried.
    pub bytes: Vec<u8>,
    /// The offer, for validating the response.
    pub offer: Offer,
}

impl Request {
    /// `Sec-WebSocket-Accept` for the client's 101; the backend's request has the same key.
    #[must_use]
    pub fn accept(&self) -> &[u8; 28] {
        self.offer.accept()
    }

    /// A request that another process has written; `None` if it is none.
    #[must_use]
    pub fn restore(bytes: Vec<u8>) -> Option<Self> {
        let offer = Offer::new(&[0; 24], &HeaderMap::new());
        let mut request = Self { bytes, offer };
        let (_, headers) = request.read()?;
        let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
        request.offer = Offer::new(key, &headers);
        Some(request)
    }

    /// Replaces the value of a field by one of the same length. Without it nothing changes.
    pub fn replace(&mut self, name: &HeaderName, value: &[u8]) {
        // Values have no line feeds, so that only a field can match.
        let line = [b"\r\n", name.as_str().as_bytes(), b": "].concat();
        let Some(at) = memchr::memmem::find(&self.bytes, &line) else { return };
        let (start, end) = (at + line.len(), at + line.len() + value.len());
        if self.bytes.get(end..end + 2) == Some(b"\r\n") {
            self.bytes[start..end].copy_from_slice(value);
        }
    }

    /// The target and the fields, parsed again, because only the bytes of a request are kept.
    #[must_use]
    pub fn read(&self) -> Option<(String, HeaderMap)> {
        let lines = self.bytes.iter().filter(|byte| **byte == b'\n').count();
        let mut fields = vec![httparse::EMPTY_HEADER; lines];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(&self.bytes).ok()?;
        let headers = request.headers.iter().filter_map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value).ok()?))
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        Some((request.path?.to_owned(), map))
    }
}

/// A request target that is empty, has a space or a control character, or has no leading slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request target is not a path")]
pub struct BadTarget;

/// Writes the request for `target` (path and query, as sent by the client) with the end-to-end fields in
/// `headers`. Connection, Upgrade, key and version are the gateway's own.
///
/// # Errors
/// If `target` could end the request line early.
pub fn write_request(
    target: &[u8],
    headers: &HeaderMap,
    handshake: &Handshake,
) -> Result<Request, BadTarget> {
    let good = target.first() == Some(&b'/') && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    if !good {
        return Err(BadTarget);
    }
    // The added fields and about 40 bytes per field: one allocation for most requests.
    let mut bytes = Vec::with_capacity(256 + target.len() + 64 * headers.len());
    bytes.extend_from_slice(b"GET ");
    bytes.extend_from_slice(target);
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    // Host first, as RFC 9110 §7.2 recommends.
    if let Some(host) = headers.get(HOST) {
        field(&mut bytes, &HOST, host);
    }
    bytes.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n");
    bytes.extend_from_slice(b"sec-websocket-key: ");
    bytes.extend_from_slice(&handshake.key);
    bytes.extend_from_slice(b"\r\n");
    let ours = [
        HOST,
        CONNECTION,
        UPGRADE,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
    ];
    for (name, value) in headers.iter().filter(|(name, _)| !ours.contains(name)) {
        field(&mut bytes, name, value);
    }
    bytes.extend_from_slice(b"\r\n");
    Ok(Request { bytes, offer: Offer::new(&handshake.key, headers) })
}
