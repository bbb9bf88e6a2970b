//! HTTP/1 on the wire: message framing, chunked bodies, response heads.

pub mod chunked_body;
pub mod message_framing;
pub mod response_head;
