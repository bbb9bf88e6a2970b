//! HTTP/1 on the wire: message framing, chunked bodies, request bodies, response headers and bodies.

pub mod chunked_body;
pub mod message_framing;
pub mod request_body;
pub mod response_body;
pub mod response_head;
