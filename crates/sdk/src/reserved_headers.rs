//! Header fields that only the gateway writes. If a plugin changed them, the gateway and a backend could disagree
//! about the end of a message or the use of the connection.

use http::{HeaderName, header};

/// Fields of one connection (RFC 9110 §7.6.1), of the framing (RFC 9112 §6), and `Expect`, to which the gateway
/// responds (RFC 9110 §10.1.1).
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

/// Whether only the gateway writes this field, separately on each side. A plugin that accepts names from its
/// operator or a script must reject it.
pub fn is_reserved_header(name: &HeaderName) -> bool {
    OWN.contains(name) || name.as_str().starts_with("sec-websocket-")
}
