//! HTTP/1 on the wire, sans-io: ends of request headers, response headers, and bodies of both directions.

pub mod body_decoder;
pub mod body_encoder;
pub mod chunked_body;
pub mod head_end;
pub mod response_head;
