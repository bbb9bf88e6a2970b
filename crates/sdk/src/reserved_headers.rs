//! Which fields are the gateway's own: changing them would make it and a backend disagree about where a
//! message ends, or about what the connection is for.

use http::{HeaderName, header};

/// Fields of one connection (RFC 9110 §7.6.1), of the framing (RFC 9112 §6), and an expectation about a body, which the
/// gateway answers (RFC 9110 §10.1.1).
const OWN: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::EXPECT,
];

/// Whether the gateway alone writes this field, on each side anew. A plugin that takes names from its
/// operator or from a script refuses it.
pub fn is_gateways_own(name: &HeaderName) -> bool {
    OWN.contains(name) || name.as_str().starts_with("sec-websocket-")
}
