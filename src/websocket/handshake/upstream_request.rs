//! Handshake request to the backend, as bytes.

use super::{Handshake, Offer};
use crate::net::http1::field_lines::{put_field, write_fields};
use crate::net::http1::field_names::FieldNames;
use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What is between a name and its value.
const SEPARATOR: &[u8] = b": ";

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
        let name = name.as_str().as_bytes();
        // Values have no line feeds, so that every line is a field.
        for at in memchr::memchr_iter(b'\n', &self.bytes) {
            let start = at + 1 + name.len() + SEPARATOR.len();
            let Some(line) = self.bytes.get(at + 1..start) else { return };
            let is_it = line[..name.len()].eq_ignore_ascii_case(name) && line.ends_with(SEPARATOR);
            if is_it && self.bytes.get(start + value.len()..start + value.len() + 2) == Some(b"\r\n") {
                return self.bytes[start..start + value.len()].copy_from_slice(value);
            }
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
/// `headers`, in the order and spelling of `names`. The values of Connection and Upgrade are the gateway's own.
///
/// # Errors
/// If `target` could end the request line early.
pub fn write_request(
    target: &[u8],
    mut headers: HeaderMap,
    names: &FieldNames,
    handshake: &Handshake,
) -> Result<Request, BadTarget> {
    let good = target.first() == Some(&b'/') && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    if !good {
        return Err(BadTarget);
    }
    for framing in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(framing);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    // Base64 is always a value.
    let key = HeaderValue::from_bytes(&handshake.key).map_err(|_| BadTarget)?;
    if headers.get(SEC_WEBSOCKET_KEY) != Some(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    // The added fields and about 40 bytes per field: one allocation for most requests.
    let mut bytes = BytesMut::with_capacity(256 + target.len() + 64 * headers.len());
    bytes.extend_from_slice(b"GET ");
    bytes.extend_from_slice(target);
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    // Host first, as RFC 9110 §7.2 recommends, where the client did not place it.
    let own_host = headers.get(HOST).filter(|_| names.spelled(b"host", &mut 0).is_none());
    if let Some(host) = own_host {
        put_field(&mut bytes, &HOST, host);
    }
    let leaves_out_host = own_host.is_some();
    write_fields(&mut bytes, names, || {
        headers.iter().filter(|(name, _)| !(leaves_out_host && **name == HOST))
    });
    bytes.extend_from_slice(b"\r\n");
    let offer = Offer::new(&handshake.key, &headers);
    Ok(Request { bytes: bytes.into(), offer })
}
