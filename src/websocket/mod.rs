//! WebSocket protocol without I/O: handshakes (RFC 6455 §4) and frames (§5), shared by tunnels and health
//! checks.

pub mod frame;
pub mod handshake;
mod offer;
mod random;

pub use offer::{ContextReset, Extensions, Offer};
pub(crate) use random::random_nonzero;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use sha1::{Digest, Sha1};

/// The GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a key, as 28 characters of base64 (RFC 6455 §4.2.2).
#[must_use]
pub fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut out = [0; 28];
    // 20 bytes always give 28 characters, so the slice is never too short.
    let written = STANDARD.encode_slice(digest, &mut out);
    debug_assert_eq!(written.ok(), Some(out.len()));
    out
}

/// The comma-separated elements of all lines of a field, trimmed, without empty ones.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether an element of the field is `token`, case-insensitively.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}
