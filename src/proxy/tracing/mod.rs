//! Facts of the spans of requests, of their attempts and of WebSockets.

pub(super) mod client_span;
mod http_method;
pub(super) mod moved_span;
pub(super) mod server_span;
pub(super) mod websocket_span;
