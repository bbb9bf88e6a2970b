//! HTTP/1 on the wire: message framing, chunked bodies and response headers.

pub mod chunked_body;
pub mod message_framing;
pub mod response_head;
