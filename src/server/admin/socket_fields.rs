//! Text fields of an open WebSocket or other upgraded connection; empty where its request was not kept.

use crate::tunnel::TunnelSnapshot;

/// The client.
pub(super) fn client(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| origin.client().to_string()).unwrap_or_default()
}

/// The upstream's name.
pub(super) fn upstream(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| origin.endpoint().upstream().to_owned()).unwrap_or_default()
}

/// The endpoint's address.
pub(super) fn endpoint(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| origin.endpoint().name().to_owned()).unwrap_or_default()
}

/// The requested host.
pub(super) fn host(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| lossy(origin.host())).unwrap_or_default()
}

/// Path and query as sent.
pub(super) fn path(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| lossy(origin.path())).unwrap_or_default()
}

/// The negotiated subprotocol.
pub(super) fn subprotocol(seen: &TunnelSnapshot) -> String {
    seen.origin.as_ref().map(|origin| origin.subprotocol().to_owned()).unwrap_or_default()
}

/// The protocol.
pub(super) fn protocol(seen: &TunnelSnapshot) -> &str {
    seen.protocol.as_deref().unwrap_or("websocket")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
