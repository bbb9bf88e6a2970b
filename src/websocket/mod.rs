//! The WebSocket handshake of RFC 6455 §4 without I/O: keys, field lists, and the check of a backend's 101.
//! Health checks and tunnels use the same check.

pub mod frame;
pub mod handshake;
mod offer;
mod random;

pub use offer::{Extensions, Offer};
pub(crate) use random::random_nonzero;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use sha1::{Digest, Sha1};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a key, as 28 characters of base64 (RFC 6455 §4.2.2).
#[must_use]
pub fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut out = [0; 28];
    // 20 bytes are always 28 characters: the slice cannot be short.
    let written = STANDARD.encode_slice(digest, &mut out);
    debug_assert_eq!(written.ok(), Some(out.len()));
    out
}

/// The comma-separated elements of every line of a field, trimmed, without empty ones.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether one of the elements of a field is `token`, in any case of letters.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}
